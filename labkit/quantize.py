"""Quantizing a whole model: which layers, how many bits, and which way.

weight_only   weights become codes; activations stay float
dynamic       and what enters a layer is quantized, on a grid chosen when it arrives
static        and that grid is fixed before, by calibration; batch norm is folded first
qat           as static, after training the weights and the grids under quantization
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from labkit.attention import can_split, split_attention
from labkit.calibration import calibrate
from labkit.checks import check_bits, check_whole
from labkit.evaluate import Accuracy, measured
from labkit.inputs import Inputs
from labkit.layers import LAYERS, ActivationQuantizer, QuantLayer
from labkit.modules import replace_modules
from labkit.observers import make_observer
from labkit.qparams import QParams, check_rule, choose_qparams
from labkit.recipe import notes
from labkit.report import Report, size_report
from labkit.selection import quantizable_layers, select_bits

__all__ = ["METHODS", "quantizable_layers", "quantize_model"]

METHODS = ("weight_only", "dynamic", "static", "qat")


def quantize_model(
    model: nn.Module,
    method: str = "weight_only",
    *,
    bits: int | Mapping[str, int] = 8,
    activation_bits: int | None = 8,
    calibration_data: Iterable | None = None,
    train_loader: Iterable[tuple[Inputs, Tensor]] | None = None,
    num_epochs: int = 0,
    evaluate: Callable[[nn.Module], Accuracy | float] | None = None,
    granularity: str | int = "channel",
    symmetric: bool = True,
    scale_rule: str = "restricted",
    observer: str | Callable[[], Any] = "minmax",
    exclude: Iterable[str] = (),
    training: Mapping[str, Any] | None = None,
) -> tuple[nn.Module, Report]:
    """Return a quantized copy of `model`, in eval mode, and the report of what that changed.

    * method: "weight_only", "dynamic", "static" or "qat", see the first lines of the module.
    * bits: 2..8 for every layer in `quantizable_layers(model)`, or {layer name: bits}, where layers
      that are not named stay float. `exclude` names layers, or modules around them, that stay
      float. `activation_bits`: 2..8 for what enters a layer, unsigned with a zero point.
    * calibration_data (static): batches of inputs. A tensor is one batch; of a tuple, the model
      gets as many as its `forward` takes.
    * train_loader, num_epochs (qat): see `labkit.qat.train_quantized`; `training` holds its further
      options, and may hold a "schedule" of widths, see `labkit.qat_schedule.train_progressively`.
    * evaluate: is called with the original and with the quantized model, returns their quality;
      with qat also with a control, the float model trained as long without quantization. There is
      none where training was stopped.
    * granularity: one weight grid a "channel" (of an Embedding: a row), one a "tensor", or one for
      so many neighbours within a channel, see `labkit.layers.rows`. symmetric, scale_rule: as in
      `choose_qparams`; symmetric codes are signed, others unsigned.
    * observer (static): a name for `labkit.observers.make_observer`, or a function that makes one.

    The model passed in is never modified. Raises ValueError before any work is done for unknown
    names, bits outside 2..8, a group size that does not divide, and data that the method needs and
    did not get; later for weights and activations that are not finite, and for a layer that no data
    reaches. The message names the layer.

    >>> net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    >>> quantized, report = quantize_model(net, bits={"0": 4, "2": 8})
    >>> report.original_bytes, report.quantized_bytes
    (9640, 1680)
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {method!r}")
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    widths = select_bits(model, bits, exclude)
    if activation_bits is not None:
        activation_bits = check_bits(activation_bits)
    elif method in ("dynamic", "static"):
        raise ValueError(
            f"{method} quantizes what enters a layer and needs activation_bits of 2 to 8, got "
            "None; where that shall stay float, use method='weight_only' or 'qat'"
        )
    if evaluate is not None and not callable(evaluate):
        raise ValueError(f"evaluate must be a function of a model, got {evaluate!r}")
    layers = {n: layer for n, layer in quantizable_layers(model).items() if n in widths}
    _check_hooks(model, widths)
    _check_grid(layers, granularity, scale_rule)
    _check_data(method, calibration_data, train_loader, num_epochs)
    _check_schedule((training or {}).get("schedule"), widths)
    inputs = _input_quantizers(method, layers, activation_bits, observer)
    choose = partial(
        _choose_weight_grid, granularity=granularity, symmetric=symmetric, scale_rule=scale_rule
    )
    original_quality = measured(evaluate, copy.deepcopy(model).eval())
    control = None

    attention = [name for name, module in model.named_modules() if can_split(module)]
    work = split_attention(copy.deepcopy(model).eval(), attention)
    batch_norms = [name for name, module in work.named_modules() if _is_batch_norm(module)]
    if method in ("static", "qat"):
        # Imported here, as tracing and training are slow to import and seldom needed.
        from labkit.transform import fold_batch_norm

        work = fold_batch_norm(work)
    if method == "static":
        inputs = calibrate(work, inputs, calibration_data)
    elif method == "qat":
        from labkit.qat_control import train_with_control

        trained, control = train_with_control(
            work,
            lambda stage: {n: partial(choose, n, bits=max(w, stage)) for n, w in widths.items()},
            train_loader,
            num_epochs,
            with_control=evaluate is not None,
            **{"activation_bits": activation_bits, **(training or {})},
        )
        inputs = {
            name: ActivationQuantizer(activation_bits, "static", qparams=grid)
            for name, grid in trained.input_grids.items()
        }
        grids = trained.weight_grids
    if method != "qat":
        grids = {n: choose(n, work.get_submodule(n).weight, bits=w) for n, w in widths.items()}
    quantized = _with_quantized_layers(work, widths, grids, inputs)
    before = notes(model)
    quantized.quantization_notes = {
        **before,
        "method": method,
        "attention": before["attention"] + attention,
        "folded": before["folded"]
        + [n for n in batch_norms if isinstance(quantized.get_submodule(n), nn.Identity)],
    }
    report = size_report(
        model,
        quantized,
        method=method,
        bits=widths if isinstance(bits, Mapping) else check_bits(bits),
        activation_bits=activation_bits if inputs else None,
        quality=measured(evaluate, quantized),
        original_quality=original_quality,
        control_quality=None if control is None else measured(evaluate, control),
    )
    return quantized.eval(), report


def _with_quantized_layers(
    model: nn.Module,
    widths: Mapping[str, int],
    grids: Mapping[str, QParams],
    inputs: Mapping[str, ActivationQuantizer],
) -> nn.Module:
    """Replace the layers in `model` and return it; weights that were one stay one."""
    replacements: dict[nn.Module, QuantLayer] = {}
    # Layers that share a weight, at the same width, share its codes.
    first: dict[tuple[int, int], QuantLayer] = {}
    for name, width in widths.items():
        layer = model.get_submodule(name)
        quantized = LAYERS[type(layer)].from_float(layer, width, grids[name], inputs.get(name))
        quantized.name = name
        # Not a copy: layers that share a bias go on sharing it.
        quantized.bias = getattr(layer, "bias", None)
        twin = first.setdefault((id(layer.weight), width), quantized)
        for part in ("packed", "scale", "zero_points"):
            setattr(quantized, part, getattr(twin, part))
        replacements[layer] = quantized
    return replace_modules(model, replacements)


def _choose_weight_grid(
    name: str,
    weight: Tensor,
    *,
    bits: int,
    granularity: str | int,
    symmetric: bool,
    scale_rule: str,
) -> QParams:
    """Choose the grid of one layer's weight; its errors name the layer."""
    axis = 0 if granularity == "channel" else None
    group_size = None if isinstance(granularity, str) else granularity
    try:
        return choose_qparams(
            weight if group_size is None else weight.flatten(1),
            bits,
            symmetric=symmetric,
            signed=symmetric,
            axis=axis,
            group_size=group_size,
            scale_rule=scale_rule,
        )
    except ValueError as error:
        raise ValueError(f"the weight of layer {name!r}: {error}") from None


def _is_batch_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm)


def _input_quantizers(
    method: str,
    layers: Mapping[str, nn.Module],
    bits: int,
    observer: str | Callable[[], Any],
) -> dict[str, ActivationQuantizer]:
    """Make what quantizes or, for now, observes the input of each layer; none for an Embedding."""
    # What enters an embedding is a row number, not a value to round.
    valued = {n: layer for n, layer in layers.items() if not isinstance(layer, nn.Embedding)}
    if method == "dynamic":
        return {
            name: ActivationQuantizer(bits, per_token=isinstance(layer, nn.Linear))
            for name, layer in valued.items()
        }
    if method == "static":
        make = observer if callable(observer) else partial(make_observer, observer, bits=bits)
        return {name: ActivationQuantizer(bits, "observe", observer=make()) for name in valued}
    return {}


def _check_schedule(schedule: Sequence[int] | None, widths: Mapping[str, int]) -> None:
    fewest = min(widths.values())
    if schedule is not None and not (schedule and schedule[-1] <= fewest):
        raise ValueError(
            f"the schedule must come down to the fewest bits asked for, {fewest}; got {schedule}"
        )


def _check_grid(layers: Mapping[str, nn.Module], granularity: str | int, scale_rule: str) -> None:
    check_rule(scale_rule)
    if granularity in ("channel", "tensor"):
        return
    if isinstance(granularity, str) or check_whole("granularity", granularity) < 1:
        raise ValueError(
            f'granularity must be "channel", "tensor" or a group size such as 32; '
            f"got {granularity!r}"
        )
    for name, layer in layers.items():
        weight = layer.weight
        length = math.prod(weight.shape[1:])
        if length % granularity:
            raise ValueError(
                f"a group size of {granularity} does not divide layer {name!r}: it has {length} "
                f"weights a channel (weight of shape {tuple(weight.shape)}); choose a divisor of "
                "it, or exclude the layer"
            )


def _check_hooks(model: nn.Module, widths: Mapping[str, int]) -> None:
    for name, module in model.named_modules():
        hooked = module._forward_hooks or module._forward_pre_hooks
        if hooked and (name in widths or can_split(module)):
            raise ValueError(
                f"layer {name!r} carries forward hooks, which would be lost when it is replaced; "
                "remove them, or exclude the layer"
            )


def _check_data(method: str, calibration_data: object, train_loader: object, epochs: int) -> None:
    if method == "static" and calibration_data is None:
        raise ValueError(
            "static quantization fixes the grid of every activation before, and needs "
            "calibration_data: a list of some input batches; without data, use method='dynamic'"
        )
    if method == "static" and not isinstance(calibration_data, Iterable):
        raise ValueError(
            "calibration_data must yield input batches, e.g. a list of tensors or a DataLoader; "
            f"got {type(calibration_data).__name__}"
        )
    if method == "qat" and (train_loader is None or check_whole("num_epochs", epochs) < 1):
        raise ValueError(
            "qat trains the model and needs a train_loader of (inputs, targets) and num_epochs of "
            f"at least 1; got train_loader={type(train_loader).__name__} and num_epochs={epochs}. "
            "Without labels use method='static', without data method='dynamic'"
        )
