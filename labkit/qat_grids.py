"""The grids of a model in training: at the weight and at the input of each layer.

    "range"    the grid follows the weight, as `choose` says, at every step; that of an input
               follows a moving average of the range that enters (Jacob et al. 2018, section 3)
    "learned"  the step of every grid is learned (LSQ, see `labkit.lsq`); the zero point is the one
               that the range asks for at the start, and stays: 0 after a ReLU, whose smallest value
               is 0, and for symmetric weights

A learned step is stored as its logarithm: positive whatever the optimizer does, and changed by a
share of itself, whatever the size of a layer's weights (as in Jain et al. 2020).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from labkit.granularity import split_groups
from labkit.layers import rows
from labkit.lsq import gradient_share, initial_step, on_learned_grid, straight_through
from labkit.observers import MovingAverageObserver
from labkit.qparams import QParams

Chooser = Callable[[Tensor], QParams]

STEP_RULES = ("range", "learned")


class RangeWeight(nn.Module):
    """Fake-quantizes a weight on the grid that `choose` finds for it, anew at every step.

    >>> from labkit.qparams import choose_qparams
    >>> RangeWeight(lambda w: choose_qparams(w, 2))(torch.tensor([0.0, 0.9, 3.0]))
    tensor([0., 1., 3.])
    """

    def __init__(self, choose: Chooser) -> None:
        """`choose` gives the grid of a weight."""
        super().__init__()
        self.choose = choose

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight as its codes represent it."""
        qparams = self.choose(weight.detach())
        if qparams.group_size is None:
            # Without a view: its node in the graph takes as long as a pass through a small weight.
            return straight_through(weight, qparams)
        return straight_through(rows(weight, qparams), qparams).view_as(weight)

    def qparams(self, weight: Tensor) -> QParams:
        """Return the grid of this weight."""
        return self.choose(weight.detach())


class LearnedGrid(nn.Module):
    """Fake-quantizes on a grid whose step is learned; the code range and the zero point are given.

    >>> x, grid = torch.tensor([0.0, 0.9, 3.0]), LearnedGrid()
    >>> grid.start(x, QParams(1.0, 0, 0, 3))
    >>> grid(x).detach()
    tensor([0., 1., 3.])
    """

    def __init__(self) -> None:
        """Make a grid that does not know its step yet; see `start`."""
        super().__init__()
        self.log_step = nn.Parameter(torch.zeros(()))
        self.register_buffer("zero_point", torch.zeros((), dtype=torch.int32))
        self.axis = self.group_size = None
        self.quant_min, self.quant_max = 0, 1
        self._once: tuple[int, QParams, Tensor] | None = None

    def start(self, x: Tensor, covering: QParams) -> None:
        """Take the form of `covering`, a grid that covers x, and the paper's first step.

        The paper's step lets the largest values clip, which pays at few bits. At 8 it would clip
        nothing and leave most codes unused, so it is never coarser than the step that covers x.
        """
        self.axis, self.group_size = covering.axis, covering.group_size
        self.quant_min, self.quant_max = covering.quant_min, covering.quant_max
        self.zero_point, self._once = covering.zero_point, None
        axis = self.axis
        if self.group_size is not None:
            x, axis = split_groups(x, self.group_size).reshape(-1, self.group_size), 0
        positive = (covering.quant_max - covering.zero_point).clamp(min=1)
        step = initial_step(x, 1, axis).reshape(covering.scale.shape) / positive.sqrt()
        step = torch.where(step > 0, torch.minimum(step, covering.scale), covering.scale)
        self.log_step.data = step.float().log()

    def forward(self, x: Tensor, elements: int | None = None) -> Tensor:
        """Return x as its codes represent it; `elements` as in `learned_step`."""
        scale = self.log_step.exp()
        if self.group_size is None:
            return on_learned_grid(x, scale, *self._at(scale, x, elements))
        scale, groups = scale[..., None], split_groups(x.flatten(1), self.group_size)
        return on_learned_grid(groups, scale, *self._at(scale, groups, elements)).view_as(x)

    def _at(self, scale: Tensor, x: Tensor, elements: int | None) -> tuple[QParams, Tensor]:
        """The grid of this scale and `gradient_share`; what stays as it is is found only once."""
        shared = x.numel() // max(1, scale.numel()) if elements is None else elements
        if self._once is None or self._once[0] != shared:
            zero_point = self.zero_point.reshape(scale.shape)
            grid = QParams(scale.detach(), zero_point, self.quant_min, self.quant_max)
            self._once = shared, grid, gradient_share(grid, shared)
        _, grid, share = self._once
        return grid.with_scale(scale.detach()), share

    def _load_from_state_dict(self, *arguments) -> None:
        super()._load_from_state_dict(*arguments)
        self._once = None

    def qparams(self, weight: Tensor | None = None) -> QParams:
        """Return the grid with the step of now; it does not depend on the weight."""
        return QParams(
            self.log_step.detach().exp(),
            self.zero_point,
            self.quant_min,
            self.quant_max,
            self.axis,
            self.group_size,
        )


class RangeInput(nn.Module):
    """Fake-quantizes what enters a layer, on a moving average of its range while it trains.

    >>> RangeInput(2)(torch.tensor([0.0, 0.9, 3.0]))
    tensor([0., 1., 3.])
    """

    def __init__(self, bits: int) -> None:
        """Codes are unsigned, with a zero point."""
        super().__init__()
        self.bits = bits
        self.observer = MovingAverageObserver(bits=bits)
        self.grid: QParams | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return x as its codes represent it."""
        if self.training or not self.reached:
            self.observer.observe(x.detach())
            self.grid = self.observer.qparams()
        return straight_through(x, self.grid)

    @property
    def reached(self) -> bool:
        """Whether anything has entered the layer."""
        return self.grid is not None

    def qparams(self) -> QParams:
        """Return the grid of now."""
        return self.grid

    def get_extra_state(self) -> Tensor:
        """Return the range that was seen, for the state_dict."""
        return torch.stack(self.observer.range()) if self.reached else torch.empty(0)

    def set_extra_state(self, state: Tensor) -> None:
        """Go on from a range that was seen."""
        self.observer, self.grid = MovingAverageObserver(bits=self.bits), None
        if state.numel():
            # The average starts from the first batch: a batch of the two ends makes it that range.
            self.observer.observe(state)
            self.grid = self.observer.qparams()


class LearnedInput(nn.Module):
    """Fake-quantizes what enters a layer, on a grid that starts from the first batch and learns.

    Only where the input comes from a layer in training; that of the model keeps its first step.

    >>> LearnedInput(2)(torch.tensor([0.0, 0.9, 3.0])).detach()
    tensor([0., 1., 3.])
    """

    def __init__(self, bits: int) -> None:
        """Codes are unsigned; the zero point is that of the first batch."""
        super().__init__()
        self.observer = MovingAverageObserver(bits=bits)
        self.grid = LearnedGrid()
        self.grid.quant_max = 2**bits - 1
        self.register_buffer("started", torch.tensor(False))
        self.reached = False

    def forward(self, x: Tensor) -> Tensor:
        """Return x as its codes represent it."""
        if not self.reached:
            self.observer.observe(x.detach())
            self.grid.start(x.detach(), self.observer.qparams())
            self.started.fill_(True)
            self.reached = True
        if not x.requires_grad:
            # What the model itself is given comes from no layer. To learn its step would cost a
            # pass backward through the first layer that nothing else needs.
            return straight_through(x, self.qparams())
        # As in the paper, without the batch.
        return self.grid(x, elements=math.prod(x.shape[1:]))

    def qparams(self) -> QParams:
        """Return the grid of now."""
        return self.grid.qparams()

    def _load_from_state_dict(self, state_dict: Mapping, prefix: str, *arguments) -> None:
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        self.reached = bool(self.started)


class Grids:
    """The grids that stand in a model while it trains, by the name of their layer.

    `inputs` is empty where activations stay float, and has none for an Embedding: what enters it is
    a row number.
    """

    def __init__(self) -> None:
        """Start without any."""
        self.weights: dict[str, RangeWeight | LearnedGrid] = {}
        self.inputs: dict[str, RangeInput | LearnedInput] = {}

    @property
    def modules(self) -> nn.ModuleList:
        """All of them, weights first; those that layers share once."""
        return nn.ModuleList(dict.fromkeys((*self.weights.values(), *self.inputs.values())))


@contextmanager
def fake_quantized(
    model: nn.Module,
    choose: Mapping[str, Chooser],
    activation_bits: int | None,
    step_rule: str = "range",
) -> Iterator[Grids]:
    """Let the layers named in `choose` compute with quantized numbers; undo it afterwards.

    Whoever reads `layer.weight` meanwhile gets the quantized one. Layers that share a weight share
    its grid.

    >>> from labkit.qparams import choose_qparams
    >>> model = nn.Sequential(nn.Linear(64, 1))
    >>> with fake_quantized(model, {"0": lambda w: choose_qparams(w, 2)}, None):
    ...     len(model[0].weight.unique())
    4
    >>> len(model[0].weight.unique())
    64
    """
    layers, grids = dict(model.named_modules()), Grids()
    shared: dict[tuple, nn.Module] = {}
    with ExitStack() as stack:
        for name, chooser in choose.items():
            layer = layers[name]
            with _named(f"the weight of layer {name!r}"):
                key, grid = _weight_grid(layer.weight, chooser, step_rule)
            grids.weights[name] = shared.setdefault(key, grid)
            parametrize.register_parametrization(layer, "weight", grids.weights[name], unsafe=True)
            stack.callback(
                parametrize.remove_parametrizations, layer, "weight", leave_parametrized=False
            )
            if activation_bits is not None and not isinstance(layer, nn.Embedding):
                make = LearnedInput if step_rule == "learned" else RangeInput
                grids.inputs[name] = make(activation_bits)
                hook = _at_the_input(grids.inputs[name], name)
                stack.callback(layer.register_forward_pre_hook(hook, with_kwargs=True).remove)
        yield grids


def _weight_grid(weight: Tensor, choose: Chooser, step_rule: str) -> tuple[tuple, nn.Module]:
    """Return the grid of a weight, and what layers must have in common to share it."""
    covering = choose(weight.detach())
    form = covering.quant_min, covering.quant_max, covering.axis, covering.group_size
    if step_rule == "range":
        return (id(weight), *form), RangeWeight(choose)
    grid = LearnedGrid()
    grid.start(rows(weight.detach(), covering), covering)
    return (id(weight), *form), grid


@contextmanager
def _named(place: str) -> Iterator[None]:
    """Say where it was that a value is not finite."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def _at_the_input(grid: nn.Module, name: str) -> Callable[..., tuple[tuple, dict]]:
    def hook(layer: nn.Module, arguments: tuple, named: dict) -> tuple[tuple, dict]:
        # Torch's layers take one input, by position or as input=x.
        (x,) = (*arguments, *named.values())
        # Whoever looks at the model in eval mode must not move its grids.
        grid.training = layer.training
        with _named(f"the input of layer {name!r}"):
            return (grid(x),), {}

    return hook
