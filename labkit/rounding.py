"""Learned rounding: up or down is decided by what a layer's output loses, not weight by weight.

    min over V of  E ‖W x − W̃ x̂‖² + λ f(V)                                    eq. 21, 25
    W̃ = s · clip(⌊W / s⌋ + h(V), n, p)                                         eq. 22
    h(V) = clip(σ(V) (ζ − γ) + γ, 0, 1)                                         eq. 23
    f(V) = Σ 1 − |2 h(V) − 1|^β                                                 eq. 24

AdaRound, Nagel et al. 2020 (arXiv 2004.10568). h is how far up a weight is rounded: h = frac(W / s)
at first, which is no rounding at all; as β falls from 20 to 2, f drives every h to 0 or 1. Here the
error is the exact parabola of `labkit.reconstruction`, in units of each channel's error at the
start, so that one λ suits all layers; the activation function of eq. 25 is left out for that. What
the annealing leaves undecided is settled by turning single weights and pairs over while that helps.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from labkit.beside import Beside
from labkit.checks import check_finite, check_whole
from labkit.granularity import blocks
from labkit.layers import QuantLayer, rows
from labkit.packing import pack
from labkit.qparams import QParams
from labkit.reconstruction import Reconstruction, reconstruct

# The paper's values; it uses Adam too.
ZETA, GAMMA = 1.1, -0.1
BETA = (20.0, 2.0)
REGULARIZATION = 0.03
# The first part of the iterations runs without f, so that h finds its place.
WARM_UP = 0.2
LEARNING_RATE = 0.1
# How many of a channel's weights are tried with every other one.
FIRST_OF_TWO = 8


def learn_rounding(
    quantized: nn.Module, model: nn.Module, batches: Iterable, *, iterations: int = 500
) -> nn.Module:
    """Return a copy of `quantized` whose layers round each weight up or down as their output asks.

    model: the float model it was made from; batches: inputs, as `quantize_model` takes them for
    calibration; some hundred samples do, labels are not needed. Layer after layer, in the order
    in which they compute, on what the quantized layers before really give. Only the codes change,
    by one at most and within their range; on these batches no output channel's mean squared error
    is larger than before. Deterministic. Embeddings, and codes that several layers share, stay.

    Raises ValueError as `labkit.beside.Beside` does, and for codes that are no rounding of the
    float weights (another model, or one that was trained since: qat).

    >>> from labkit.quantize import quantize_model
    >>> _ = torch.manual_seed(0)
    >>> net, x = nn.Linear(32, 4), torch.randn(50, 32) + 1
    >>> nearest, _ = quantize_model(net, bits=2)
    >>> learned = learn_rounding(nearest, net, x, iterations=100)
    >>> bool((learned(x) - net(x)).norm() < 0.5 * (nearest(x) - net(x)).norm())
    True
    """
    if check_whole("iterations", iterations) < 1:
        raise ValueError(f"iterations must be at least 1, e.g. 500; got {iterations}")
    beside = Beside(quantized, model, batches)
    layers = [m for m in beside.quantized.modules() if isinstance(m, QuantLayer)]
    owners = Counter(id(layer.packed) for layer in layers)
    choices = {
        name: _Choice.of(name, original, layer)
        for name, (original, layer) in beside.layers.items()
        if owners[id(layer.packed)] == 1
    }
    for name, choice in choices.items():
        original, layer = beside.layers[name]
        task = reconstruct(original, layer, beside.visits(name))
        up = _annealed(choice, task, iterations)
        up = torch.where(_is_less(choice, task, up), up, choice.up)
        codes = choice.codes(_descended(choice, task, up))
        layer.packed = pack(codes.to(torch.int16).view(layer.weight_shape), layer.bits)
    return beside.quantized


@dataclass(frozen=True)
class _Choice:
    """The two codes between which each weight lies, of one layer; all (groups, channels, n).

    Differences are those of the dequantized weight from the float one; float64. `up` says which of
    the two the layer has. `step` is 0 where both are the same, at the ends of the code range.
    """

    low: Tensor
    step: Tensor
    at_low: Tensor
    fraction: Tensor
    up: Tensor

    @classmethod
    def of(cls, name: str, original: nn.Module, layer: QuantLayer) -> _Choice:
        qparams = layer.qparams
        weight = rows(original.weight.detach(), qparams).double().contiguous()
        try:
            check_finite(weight)
        except ValueError as error:
            raise ValueError(f"the weight of layer {name!r}: {error}") from None
        scale, zero_point = _spread(qparams, weight)
        place = weight / scale + zero_point
        low, high = (
            (place.floor() + step).clamp(qparams.quant_min, qparams.quant_max) for step in (0, 1)
        )
        codes = rows(layer.codes, qparams).double()
        if not ((codes == low) | (codes == high)).all():
            raise ValueError(
                f"the codes of layer {name!r} are not the float model's weights, rounded; give the "
                "model that quantize_model got (the weights that qat trains are others)"
            )
        groups = getattr(layer, "groups", 1)
        parts = (
            low,
            (high - low) * scale,
            (low - zero_point) * scale - weight,
            place - place.floor(),
            codes > low,
        )
        shape = (groups, len(layer.codes) // groups, -1)
        return cls(*(part.reshape(shape) for part in parts))

    def codes(self, up: Tensor) -> Tensor:
        return self.low + (up & (self.step > 0))

    def difference(self, up: Tensor) -> Tensor:
        """What rounding adds to the weight; `up` between 0 and 1 is somewhere between the two."""
        return self.at_low + up * self.step


def _spread(qparams: QParams, like: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and zero point of every single weight."""
    scale, zero_point = torch.empty_like(like), torch.empty_like(like)
    for (_, out), value, _ in blocks(qparams, like, scale):
        out[:] = value
    for (_, out), _, value in blocks(qparams, like, zero_point):
        out[:] = value
    return scale, zero_point


def soft_rounding(v: Tensor) -> Tensor:
    """Return h(V), the rectified sigmoid (eq. 23): 0 to 1, and exactly 0 or 1 at the ends.

    >>> soft_rounding(torch.tensor([-9.0, 0.0, 9.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    return (v.sigmoid() * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def pull_to_the_ends(h: Tensor, beta: float) -> Tensor:
    """Return f (eq. 24): one for each h of 0.5, nothing for 0 and 1; a large β is flat between.

    >>> pull_to_the_ends(torch.tensor([0.0, 0.5, 0.75]), beta=2).item()
    1.75
    """
    return (1 - (2 * h - 1).abs().pow(beta)).sum()


# The caller may have gradients switched off, as for everything else that is computed here.
@torch.enable_grad()
def _annealed(choice: _Choice, task: Reconstruction, iterations: int) -> Tensor:
    """Learn V by Adam; return which weights are rounded up in the end."""
    # A channel that is exact already has no unit of error, and nothing to gain.
    start = task.error(choice.difference(choice.up))
    unit = start.clamp_min(torch.finfo(start.dtype).tiny).reciprocal().unsqueeze(-1)
    gram, cross, unit, at_low, step = (
        part.float() for part in (task.gram, task.cross, unit, choice.at_low, choice.step)
    )
    # eq. 23 backwards; an h of 0 or 1 has no gradient.
    inside = (choice.fraction.clamp(1e-4, 1 - 1e-4).float() - GAMMA) / (ZETA - GAMMA)
    v = inside.logit().requires_grad_()
    optimizer = torch.optim.Adam([v], lr=LEARNING_RATE)
    for iteration in range(iterations):
        h = soft_rounding(v)
        difference = at_low + h * step
        # The gradient of the parabola, given to autograd: one matrix product instead of three.
        gradient = 2 * (difference.detach() @ gram - cross) * unit
        objective = (gradient * difference).sum()
        progress = (iteration / iterations - WARM_UP) / (1 - WARM_UP)
        if progress >= 0:
            beta = BETA[1] + (BETA[0] - BETA[1]) * (1 + math.cos(math.pi * progress)) / 2
            objective = objective + REGULARIZATION * pull_to_the_ends(h, beta)
        optimizer.zero_grad()
        objective.backward()
        optimizer.step()
    return soft_rounding(v.detach()) >= 0.5


def _is_less(choice: _Choice, task: Reconstruction, up: Tensor) -> Tensor:
    """In which channels the error is smaller than at the start: (groups, channels, 1)."""
    errors = (task.error(choice.difference(which)) for which in (up, choice.up))
    return torch.lt(*errors).unsqueeze(-1)


def _descended(choice: _Choice, task: Reconstruction, up: Tensor) -> Tensor:
    """Turn over one weight or two, in each channel the best, as long as that lowers its error.

    What a turn by t gains is g = slope · t + H_ii t²; two of them gain g_i + g_j + 2 t_i t_j H_ij.
    """
    up = up.clone()
    n = up.shape[-1]
    slope = 2 * (choice.difference(up) @ task.gram - task.cross)
    curvature = task.gram.diagonal(dim1=1, dim2=2).unsqueeze(1)
    group = torch.arange(len(up), device=up.device).view(-1, 1, 1)
    # Less than this is the rounding error of the sums.
    least = 1e-9 * task.error(choice.difference(up)).abs()
    while True:
        turn = torch.where(up, -choice.step, choice.step)
        alone = slope * turn + curvature * turn.square()
        first_alone, first = alone.topk(min(FIRST_OF_TWO, n), largest=False)
        together = task.gram[group, first].mul_(2 * turn.unsqueeze(-2))
        together.mul_(turn.gather(-1, first).unsqueeze(-1))
        together.add_(alone.unsqueeze(-2)).add_(first_alone.unsqueeze(-1))
        # A weight with itself: it turns alone.
        together.scatter_(-1, first.unsqueeze(-1), first_alone.unsqueeze(-1))
        gain, best = together.flatten(-2).min(-1, keepdim=True)
        lower = gain < -least.unsqueeze(-1)
        if not lower.any():
            return up
        turned = torch.zeros_like(up).scatter_(-1, first.gather(-1, best // n), True)
        turned = turned.scatter_(-1, best % n, True) & lower
        slope += 2 * torch.where(turned, turn, 0) @ task.gram
        up ^= turned
