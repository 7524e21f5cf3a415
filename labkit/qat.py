"""Quantization-aware training: the model learns while it computes with quantized numbers.

    forward    w' = fake_quantize(w, choose(w))      what the quantized model will compute with
    backward   dL/dw = dL/dw' where the code is inside the code range, else 0     straight-through

The float weights stay behind the quantized ones and move by small steps; a code changes when its
weight has crossed half a step of the grid. Batch norm is folded before training, so that the weight
that is trained is the weight that will be stored.
Sources: Bengio et al. 2013 (straight-through estimator); Jacob et al. 2018, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from labkit.affine import fake_quantize
from labkit.layers import rows
from labkit.observers import MovingAverageObserver
from labkit.qparams import QParams

Chooser = Callable[[Tensor], QParams]


def train_quantized(
    model: nn.Module,
    choose: Mapping[str, Chooser],
    train_loader: Iterable[tuple[Tensor, Tensor]],
    num_epochs: int,
    *,
    activation_bits: int | None = 8,
    learning_rate: float = 1e-3,
    loss: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy,
    after_epoch: Callable[[int, float], None] | None = None,
) -> dict[str, QParams]:
    """Train `model` in place under quantization; return the input grid that each layer learned.

    `choose`: layer name → function from that layer's weight to its `QParams`, called at every step,
    so that the grid follows the weight. With `activation_bits` (None: inputs stay float) what
    enters those layers is fake-quantized too, on a moving average of its range. `train_loader`
    yields (inputs, targets) and is run through once an epoch; `after_epoch(epoch, mean loss)`
    counts from 1. Adam; the model ends in eval mode with ordinary float weights, and quantizing
    them with `choose` and the grids returned gives exactly the model that was trained.

    Raises ValueError for a layer that does not exist or was never reached, no epochs, no batches, a
    learning rate that is not positive, and a loss that is no longer finite.

    >>> from labkit.qparams import choose_qparams
    >>> model = nn.Sequential(nn.Linear(4, 2))
    >>> batches = [(torch.eye(4), torch.tensor([0, 1, 0, 1]))]
    >>> grids = train_quantized(model, {"0": lambda w: choose_qparams(w, 2)}, batches, num_epochs=3)
    >>> grids["0"].quant_max
    255
    """
    layers = dict(model.named_modules())
    unknown = sorted(choose.keys() - layers.keys())
    if unknown:
        raise ValueError(f"the model has no layer {', '.join(unknown)}; it has {', '.join(layers)}")
    if num_epochs < 1 or not learning_rate > 0:
        raise ValueError(
            f"got num_epochs={num_epochs} and learning_rate={learning_rate}; "
            "needs at least 1 epoch and a learning rate above 0, e.g. 1e-3"
        )
    inputs = {}
    if activation_bits is not None:
        # What enters an embedding is a row number, not a value to round.
        valued = [name for name in choose if not isinstance(layers[name], nn.Embedding)]
        inputs = {name: _InputGrid(activation_bits) for name in valued}
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    with ExitStack() as stack:
        for name, chooser in choose.items():
            stack.enter_context(_quantized_weight(layers[name], chooser))
        for name, grid in inputs.items():
            stack.callback(layers[name].register_forward_pre_hook(grid, with_kwargs=True).remove)
        stack.callback(model.eval)
        model.train()
        for epoch in range(1, num_epochs + 1):
            mean = _one_epoch(model, train_loader, optimizer, loss)
            if after_epoch is not None:
                after_epoch(epoch, mean)
    missed = [name for name, grid in inputs.items() if grid.qparams is None]
    if missed:
        raise ValueError(f"no input reached the layers {', '.join(missed)}: exclude them")
    return {name: grid.qparams for name, grid in inputs.items()}


def _one_epoch(
    model: nn.Module,
    train_loader: Iterable[tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    loss: Callable[[Tensor, Tensor], Tensor],
) -> float:
    """Run through the data once; return the mean loss of a sample."""
    total, count = 0.0, 0
    for inputs, targets in train_loader:
        value = loss(model(inputs), targets)
        if not math.isfinite(value.item()):
            rate = optimizer.param_groups[0]["lr"]
            raise ValueError(f"the loss became {value.item()}; try a learning rate below {rate}")
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        total += value.item() * len(inputs)
        count += len(inputs)
    if count == 0:
        raise ValueError(
            "train_loader held no batches in an epoch; give a list or a DataLoader, "
            "not a generator that is used up after the first epoch"
        )
    return total / count


class _FakeQuantizedWeight(nn.Module):
    """As a parametrization: whoever reads `layer.weight` gets the quantized one."""

    def __init__(self, choose: Chooser) -> None:
        super().__init__()
        self.choose = choose

    def forward(self, weight: Tensor) -> Tensor:
        qparams = self.choose(weight.detach())
        return fake_quantize(rows(weight, qparams), qparams).view_as(weight)


@contextmanager
def _quantized_weight(layer: nn.Module, choose: Chooser) -> Iterator[None]:
    """Let the layer compute with its quantized weight; give the float one back afterwards."""
    step = _FakeQuantizedWeight(choose)
    parametrize.register_parametrization(layer, "weight", step, unsafe=True)
    try:
        yield
    finally:
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)


class _InputGrid:
    """A pre-hook that watches what enters a layer and passes it on fake-quantized."""

    def __init__(self, bits: int) -> None:
        self.observer = MovingAverageObserver(bits=bits)
        self.qparams: QParams | None = None

    def __call__(self, layer: nn.Module, arguments: tuple, named: dict) -> tuple[tuple, dict]:
        # Torch's layers take one input, by position or as input=x.
        (x,) = (*arguments, *named.values())
        if layer.training:
            self.observer.observe(x.detach())
            self.qparams = self.observer.qparams()
        return (fake_quantize(x, self.qparams),), {}
