"""A fast stand-in for measured sensitivity: the curvature of the loss times the rounding error.

Near a minimum a small change e of the weights raises the loss by about ½ eᵀHe, H being the Hessian.
Its diagonal and trace are estimated without ever writing H down (Hutchinson 1990): for random signs
z, E[z ⊙ Hz] is the diagonal, and Hz costs one more backward pass (Pearlmutter 1994).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from labkit.attention import can_split, split_attention
from labkit.checks import check_whole
from labkit.inputs import Inputs, call, count
from labkit.quantize import quantize_model
from labkit.sensitivity import Sensitivity, check_widths, layer_bytes

CURVATURES = ("diagonal", "trace", "full")


def hutchinson_diagonal(
    loss: Tensor,
    parameters: Sequence[Tensor],
    *,
    samples: int = 16,
    generator: torch.Generator | None = None,
) -> list[Tensor]:
    """Estimate the diagonal of the Hessian of `loss`: a tensor for each parameter, of its shape.

    loss: a scalar computed from `parameters`, its graph still there. The mean of z ⊙ Hz over
    `samples` vectors z of random signs: without error where H is diagonal; otherwise the variance
    of entry i is that of one sample, the sum over j ≠ i of H_ij², divided by `samples`. Source:
    Bekas, Kokiopoulou and Saad, Applied Numerical Mathematics 57 (2007) 1214. Raises ValueError for
    a loss that is no scalar with a graph, and less than one sample.

    >>> w = torch.ones(3, requires_grad=True)
    >>> hutchinson_diagonal((torch.tensor([1.0, 2.0, 3.0]) * w**2).sum(), [w], samples=1)
    [tensor([2., 4., 6.])]
    """
    totals = [torch.zeros_like(parameter) for parameter in parameters]
    for signs, products in _probes(loss, parameters, samples, generator):
        for total, z, product in zip(totals, signs, products, strict=True):
            total += z * product / samples
    return totals


def hutchinson_trace(
    loss: Tensor,
    parameters: Sequence[Tensor],
    *,
    samples: int = 16,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Estimate, for each parameter, the trace of its block of the Hessian: float64 (parameters,).

    The mean of zᵀHz over `samples` vectors of random signs; for one parameter the variance of a
    sample is 2 Σ_{i≠j} H_ij², as long as the others have no part in it. Source: Hutchinson,
    Communications in Statistics 18 (1989) 1059. Arguments and errors as in `hutchinson_diagonal`.

    >>> w = torch.ones(3, requires_grad=True)
    >>> hutchinson_trace((torch.tensor([1.0, 2.0, 3.0]) * w**2).sum(), [w], samples=1)
    tensor([12.], dtype=torch.float64)
    """
    totals = torch.zeros(len(parameters), dtype=torch.float64)
    for signs, products in _probes(loss, parameters, samples, generator):
        blocks = zip(signs, products, strict=True)
        totals += torch.stack([(z * p).sum().double().cpu() for z, p in blocks])
    return totals / samples


def hessian_sensitivity(
    model: nn.Module,
    batches: Iterable[tuple[Inputs, Tensor]],
    loss: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy,
    bits: Iterable[int] = (2, 3, 4, 6, 8),
    *,
    granularity: str | int = "channel",
    exclude: Iterable[str] = (),
    curvature: str = "diagonal",
    samples: int = 16,
    seed: int = 0,
) -> Sensitivity:
    """Predict what `labkit.sensitivity.measure_sensitivity` would measure, from the curvature.

    batches: of (inputs, targets), best of about 50: the graph of a large one leaves the processor's
    cache, at several times the time; `loss(outputs, targets)` is their mean. With e = Q(w) - w, the
    error of a layer's weights at a width, its `loss` in the returned table is

    * "diagonal": ½ Σ H_ii e_i²
    * "trace": ½ tr(H) / n · Σ e_i², n being the number of weights, as in HAWQ-V2
    * "full": ½ eᵀHe, exact to second order, at the price of one Hz a layer and width

    `quality` is minus that, `baseline` 0. `samples` vectors a batch, drawn with `seed`. The model
    is not modified. Sources: Dong et al. 2020, HAWQ-V2 (arXiv 1911.03852); LeCun, Denker and Solla
    1990. Raises ValueError as `quantize_model`, for no batches or another curvature, and for a loss
    that is not finite.

    >>> net = nn.Sequential(nn.Linear(4, 2))
    >>> table = hessian_sensitivity(net, [(torch.eye(4), torch.tensor([0, 1, 1, 0]))], bits=(2, 8))
    >>> table.loss.shape, bool(table.loss[0, 0] > table.loss[0, 1])
    ((1, 2), True)
    """
    widths = check_widths(bits)
    if curvature not in CURVATURES:
        raise ValueError(f"curvature must be one of {', '.join(CURVATURES)}; got {curvature!r}")
    check_whole("samples", samples)
    layers, sizes, other = layer_bytes(model, widths, exclude, {"granularity": granularity})
    work = _differentiable(model)
    weights = [work.get_submodule(name).weight for name in layers]
    errors = _errors(model, widths, layers, weights, exclude, granularity)
    generator = torch.Generator().manual_seed(seed)
    increase, seen = np.zeros(sizes.shape), 0
    for inputs, targets in batches:
        # The fused attention kernels have no second derivative.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            value = loss(call(work, inputs), targets)
            found = _increase(value, weights, errors, curvature, samples, generator)
        increase += count(inputs) * found
        seen += count(inputs)
    if not seen:
        raise ValueError("needs at least one batch of (inputs, targets), got none")
    if not np.isfinite(increase).all():
        raise ValueError(
            "the loss or its curvature is not finite; look for NaN in the batches and the weights"
        )
    title = f"minus the predicted increase of the loss ({curvature} of the Hessian, computed)"
    return Sensitivity(layers, widths, -increase / seen, 0.0, sizes, other, title)


def rank_correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Return Spearman's rank correlation of two tables of the same shape: 1 is the same order.

    Raises ValueError for shapes that differ, less than two values, and a table of equal values.

    >>> rank_correlation([1, 2, 3], [10, 20, 15])
    0.5
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape or a.size < 2:
        raise ValueError(
            f"needs two tables of the same shape with at least two values, got {a.shape} and "
            f"{b.shape}"
        )
    for values in (a, b):
        if not np.isfinite(values).all() or (values == values.flat[0]).all():
            raise ValueError("needs finite values that are not all equal; these have no order")
    return float(spearmanr(a.ravel(), b.ravel()).statistic)


def _probes(
    loss: Tensor, parameters: Sequence[Tensor], samples: int, generator: torch.Generator | None
) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Random signs z for all parameters, and the Hessian times z."""
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
        raise ValueError(
            "loss must be a scalar tensor computed from the parameters, its graph still there"
        )
    if check_whole("samples", samples) < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    gradients = _gradients(loss, parameters)
    for _ in range(samples):
        signs = [_signs(parameter, generator) for parameter in parameters]
        yield signs, _times_hessian(gradients, parameters, signs)


def _gradients(loss: Tensor, parameters: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(
        loss, parameters, create_graph=True, allow_unused=True, materialize_grads=True
    )


def _times_hessian(
    gradients: Sequence[Tensor], parameters: Sequence[Tensor], vectors: Sequence[Tensor]
) -> list[Tensor]:
    """Return Hv: the gradient of gᵀv; zeros where the loss is linear."""
    products = [(g * v).sum() for g, v in zip(gradients, vectors, strict=True) if g.requires_grad]
    if not products:
        return [torch.zeros_like(parameter) for parameter in parameters]
    total = torch.stack(products).sum()
    found = torch.autograd.grad(
        total, parameters, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return list(found)


def _signs(like: Tensor, generator: torch.Generator | None) -> Tensor:
    drawn = torch.randint(0, 2, like.shape, generator=generator)
    return (2 * drawn - 1).to(like)


def _differentiable(model: nn.Module) -> nn.Module:
    """A float copy in eval mode whose attention is split as `quantize_model` splits it."""
    work = copy.deepcopy(model).eval()
    names = [name for name, module in work.named_modules() if can_split(module)]
    return split_attention(work, names).requires_grad_(True)


def _errors(
    model: nn.Module,
    widths: tuple[int, ...],
    layers: tuple[str, ...],
    weights: list[Tensor],
    exclude: Iterable[str],
    granularity: str | int,
) -> list[list[Tensor]]:
    """Q(w) - w of each layer at each width."""
    by_width = []
    for width in widths:
        quantized, _ = quantize_model(model, bits=width, exclude=exclude, granularity=granularity)
        by_width.append(
            [
                quantized.get_submodule(name).weight.to(w.dtype) - w.detach()
                for name, w in zip(layers, weights, strict=True)
            ]
        )
    return [list(errors) for errors in zip(*by_width, strict=True)]


def _increase(
    loss: Tensor,
    weights: list[Tensor],
    errors: list[list[Tensor]],
    curvature: str,
    samples: int,
    generator: torch.Generator,
) -> np.ndarray:
    """½ eᵀHe of each layer and width, or its estimate, for one batch."""
    if curvature == "full":
        gradients = _gradients(loss, weights)
        quadratic = [
            [(e * _times_hessian([gradient], [w], [e])[0]).sum().item() for e in layer]
            for w, gradient, layer in zip(weights, gradients, errors, strict=True)
        ]
        return 0.5 * np.array(quadratic)
    squares = [[e.double().square() for e in layer] for layer in errors]
    if curvature == "trace":
        traces = hutchinson_trace(loss, weights, samples=samples, generator=generator)
        means = [t.item() / w.numel() for t, w in zip(traces, weights, strict=True)]
        return 0.5 * np.array(
            [[m * s.sum().item() for s in layer] for m, layer in zip(means, squares, strict=True)]
        )
    diagonals = hutchinson_diagonal(loss, weights, samples=samples, generator=generator)
    return 0.5 * np.array(
        [[(d * s).sum().item() for s in layer] for d, layer in zip(diagonals, squares, strict=True)]
    )
