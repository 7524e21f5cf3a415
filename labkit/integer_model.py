"""A whole statically quantized network run in integers, from the codes of its input to its scores.

Between two quantized layers travel codes of the second one's input grid. What may lie between is
what can be done to codes: ReLU (a clamp at the zero point, part of the layer before), max pooling
(codes are in the order of the values they stand for) and reshaping. The last accumulator is not
brought down to 8 bits: s_x s_w turns it into float scores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from labkit.affine import QParams
from labkit.integer import integer_conv2d, integer_linear
from labkit.layers import QuantConv2d, QuantLayer, QuantLinear
from labkit.requantize import accumulator_scale, check_rounding, quantize_bias

__all__ = ["IntegerRun", "Stage", "integer_forward", "integer_stages", "run_integer"]


@dataclass(frozen=True, eq=False)
class Stage:
    """One integer layer of the network, and what happens to its codes before the next.

    `after` are functions codes → codes: pooling and reshaping.
    """

    name: str
    layer: QuantLinear | QuantConv2d
    x_qparams: QParams
    w_qparams: QParams
    bias: Tensor | None  # int32 at scale s_x s_w
    y_qparams: QParams | None  # The next layer's input grid; None for the last layer.
    relu: bool
    after: tuple[Callable[[Tensor], Tensor], ...] = ()

    def __call__(self, codes: Tensor, requantize: str = "fixed_point") -> Tensor:
        """Codes of the input → codes of the output, or the last layer's int32 accumulators."""
        options = {"relu": self.relu, "requantize": requantize}
        return self._run(codes, self.bias, self.y_qparams, **options)

    def accumulators(self, codes: Tensor) -> Tensor:
        """Codes of the input → int32 sums of products, before bias and ReLU."""
        return self._run(codes, None, None)

    def _run(self, codes: Tensor, bias: Tensor | None, y_qparams: QParams | None, **options):
        layer = self.layer
        arguments = (codes, self.x_qparams, layer.codes, self.w_qparams, bias, y_qparams)
        if isinstance(layer, QuantLinear):
            return integer_linear(*arguments, **options)
        for name in ("stride", "padding", "dilation", "groups"):
            options[name] = getattr(layer, name)
        return integer_conv2d(*arguments, **options)


@dataclass(frozen=True, eq=False)
class IntegerRun:
    """What an integer forward pass computed: `scores` (float32) and the codes on the way.

    `codes`: layer name → the codes that entered it.
    """

    scores: Tensor
    codes: dict[str, Tensor] = field(repr=False)


def integer_forward(model: nn.Module, x: Tensor, *, requantize: str = "fixed_point") -> Tensor:
    """Return the model's output for x (float32 scores), computed with integers between the layers.

    model: from `labkit.quantize.quantize_model(method="static")`, a chain of Linear and Conv2d with
    ReLU, max pooling and flattening between; x: a float batch. Floats occur twice: x is quantized
    at the start, the last accumulator multiplied by its scale at the end. `requantize`: see
    `labkit.requantize.requantize_accumulator`. Raises ValueError, naming the layer or the step, for
    a model that cannot be run so.

    >>> from labkit.quantize import quantize_model
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> x = torch.linspace(-1, 1, 12).reshape(3, 4)
    >>> quantized, _ = quantize_model(net, "static", calibration_data=[x])
    >>> torch.allclose(integer_forward(quantized, x), quantized(x), atol=0.02)
    True
    """
    return run_integer(model, x, requantize=requantize).scores


def run_integer(model: nn.Module, x: Tensor, *, requantize: str = "fixed_point") -> IntegerRun:
    """As `integer_forward`, and keep the codes that enter every layer.

    >>> from labkit.quantize import quantize_model
    >>> x = torch.linspace(-1, 1, 12).reshape(3, 4)
    >>> net, _ = quantize_model(nn.Sequential(nn.Linear(4, 2)), "static", calibration_data=[x])
    >>> run_integer(net, x).codes["0"].dtype
    torch.uint8
    """
    check_rounding(requantize)
    before, stages = integer_stages(model)
    for step in before:
        x = step(x)
    codes, entered = stages[0].layer.input_quantizer.codes(x), {}
    for stage in stages:
        entered[stage.name] = codes
        codes = stage(codes, requantize)
        for step in stage.after:
            codes = step(codes)
    last = stages[-1]
    scale = accumulator_scale(last.x_qparams, last.w_qparams)
    channels = (-1,) if isinstance(last.layer, QuantLinear) else (-1, 1, 1)
    scores = codes.double() * (scale if scale.ndim == 0 else scale.reshape(channels))
    return IntegerRun(scores.float(), entered)


def integer_stages(model: nn.Module) -> tuple[list[Callable], list[Stage]]:
    """Return (steps on the input before the first layer, the integer layers in order).

    Raises ValueError, naming what is in the way, for a model that is no such chain.

    >>> from labkit.quantize import quantize_model
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> net, _ = quantize_model(net, "static", calibration_data=[torch.ones(1, 2, 2)])
    >>> [(stage.name, stage.relu) for stage in integer_stages(net)[1]]
    [('1', True), ('3', False)]
    """
    before: list[Callable] = []
    layers: list[tuple[str, QuantLayer, list[Callable]]] = []
    rectified: set[str] = set()
    for name, action in _chain(model):
        if isinstance(action, QuantLayer):
            layers.append((name, _checked(name, action), []))
        elif action is functional.relu and layers:
            # Pooling and reshaping commute with it, so it always joins the layer before.
            rectified.add(layers[-1][0])
        else:
            (layers[-1][2] if layers else before).append(action)
    if not layers:
        raise ValueError("the model has no quantized layer; use quantize_model(model, 'static')")
    if layers[-1][2]:
        raise ValueError(
            f"the model must end with its last layer {layers[-1][0]!r} or a ReLU, because "
            "that layer's sums are its result"
        )
    stages = []
    for i, (name, layer, after) in enumerate(layers):
        x_qparams, w_qparams = layer.input_quantizer.qparams, layer.qparams
        bias = None if layer.bias is None else quantize_bias(layer.bias, x_qparams, w_qparams)
        y_qparams = layers[i + 1][1].input_quantizer.qparams if i + 1 < len(layers) else None
        relu = name in rectified
        stages.append(Stage(name, layer, x_qparams, w_qparams, bias, y_qparams, relu, tuple(after)))
    return before, stages


class _Tracer(fx.Tracer):
    """Stops at quantized layers too."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, QuantLayer) or super().is_leaf_module(m, module_qualified_name)


def _chain(model: nn.Module) -> list[tuple[str, QuantLayer | Callable]]:
    """Return what happens to the input, in order: quantized layers and functions of codes."""
    if isinstance(model, QuantLayer):
        return [("", model)]
    steps = []
    for node in _Tracer().trace(model).nodes:
        if node.op == "output":
            break
        if len(node.users) != 1:
            raise ValueError(
                f"the step {node.name!r} is read {len(node.users)} times; integer_forward runs "
                "chains, where each step feeds the next"
            )
        if node.op == "placeholder":
            continue
        action = _action(node, model)
        if action is not None:
            steps.append((str(node.target), action))
    return steps


def _action(node: fx.Node, model: nn.Module) -> QuantLayer | Callable | None:
    """Return what a node of the graph does to codes; None for nothing."""
    kind = node.target
    if node.op == "call_module":
        module = model.get_submodule(node.target)
        if isinstance(module, QuantLayer):
            return module
        if isinstance(module, nn.Identity | nn.Dropout):
            return None
        if isinstance(module, nn.MaxPool2d):
            return _max_pool(module)
        if isinstance(module, nn.Flatten):
            return module
        kind = type(module)
    elif len(node.all_input_nodes) == 1 and kind in _RESHAPING:
        rest, named = node.args[1:], node.kwargs
        return lambda codes: _RESHAPING[kind](codes, *rest, **named)
    if kind in (nn.ReLU, functional.relu, torch.relu, "relu"):
        return functional.relu
    raise ValueError(
        f"the step {node.name!r} ({getattr(kind, '__name__', kind)}) is none that integer_forward "
        "knows: quantized Linear and Conv2d, ReLU, MaxPool2d, Flatten and reshaping"
    )


_RESHAPING: dict[object, Callable] = {
    torch.flatten: torch.flatten,
    "flatten": Tensor.flatten,
    "view": Tensor.reshape,
    "reshape": Tensor.reshape,
}


def _max_pool(module: nn.MaxPool2d) -> Callable[[Tensor], Tensor]:
    # torch pools floats, which hold codes exactly; the largest code stands for the largest value.
    return lambda codes: module(codes.float()).to(codes.dtype)


def _checked(name: str, layer: QuantLayer) -> QuantLayer:
    """Return the layer; ValueError naming it where integers cannot stand for it."""
    if not isinstance(layer, QuantLinear | QuantConv2d):
        raise ValueError(f"the layer {name!r} is a {type(layer).__name__}, not Linear or Conv2d")
    quantizer = layer.input_quantizer
    if quantizer is None or quantizer.qparams is None:
        raise ValueError(
            f"the input of layer {name!r} has no grid known before; use "
            "quantize_model(model, 'static', calibration_data=...)"
        )
    if getattr(layer, "padding_mode", "zeros") != "zeros":
        raise ValueError(f"the layer {name!r} pads with {layer.padding_mode!r}; only zeros work")
    return layer
