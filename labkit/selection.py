"""Which layers of a model are quantized, and with how many bits each."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from torch import nn

from labkit.attention import can_split, projections
from labkit.checks import check_bits
from labkit.layers import LAYERS


def quantizable_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return {name: layer} of what can be quantized, in the model's order, shared layers once.

    These are Linear, Conv1d, Conv2d, Embedding, and the four projections inside of a
    MultiheadAttention (see `labkit.attention`). Left out, because they compute something else than
    their weight says: subclasses, parametrized layers, and an Embedding with `max_norm`, which
    changes its table while it reads it.

    >>> list(quantizable_layers(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Linear(4, 2))))
    ['0', '2']
    """
    layers: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        if can_split(module):
            prefix = f"{name}." if name else ""
            layers.update({prefix + part: m for part, m in projections(module).items()})
        elif _is_quantizable(module):
            layers[name] = module
    return layers


def select_bits(
    model: nn.Module, bits: int | Mapping[str, int], exclude: Iterable[str] = ()
) -> dict[str, int]:
    """Return {layer name: bits} of the layers to quantize, in the model's order.

    A number holds for every quantizable layer, a dict names them; `exclude` takes layers out again,
    by their own name or that of a module around them. Raises ValueError for bits outside 2..8, for
    names that the model does not have, and when nothing is left to quantize.

    >>> select_bits(nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 2)), 4, exclude=["1"])
    {'0': 4}
    """
    layers = quantizable_layers(model)
    if isinstance(exclude, str):
        exclude = [exclude]
    excluded = {name for given in exclude or () for name in _inside(given, layers, model)}
    if isinstance(bits, Mapping):
        for name in bits:
            if name not in layers:
                raise ValueError(_unknown(name, layers, model))
        wanted = {name: _bits_of(name, bits[name]) for name in layers if name in bits}
    else:
        wanted = dict.fromkeys(layers, check_bits(bits))
    selected = {name: width for name, width in wanted.items() if name not in excluded}
    if not layers:
        kinds = ", ".join(kind.__name__ for kind in LAYERS)
        raise ValueError(
            f"{type(model).__name__} has no float layer that can be quantized ({kinds}); "
            "layers that are quantized already do not count"
        )
    if not selected:
        raise ValueError(
            f"nothing is left to quantize in {type(model).__name__}: "
            f"bits and exclude leave none of its layers {', '.join(layers)}"
        )
    return selected


def _is_quantizable(module: nn.Module) -> bool:
    # A weight that is no parameter of its own is computed by a hook (weight_norm).
    return (
        type(module) in LAYERS
        and module._parameters.get("weight") is not None
        and getattr(module, "max_norm", None) is None
    )


def _bits_of(name: str, bits: int) -> int:
    try:
        return check_bits(bits)
    except ValueError as error:
        raise ValueError(f"layer {name!r}: {error}") from None


def _inside(given: str, layers: dict[str, nn.Module], model: nn.Module) -> list[str]:
    """The quantizable layers that `given` names: itself, or those inside of it."""
    inside = [name for name in layers if name == given or name.startswith(f"{given}.")]
    if not inside:
        raise ValueError(_unknown(given, layers, model))
    return inside


def _unknown(given: str, layers: dict[str, nn.Module], model: nn.Module) -> str:
    """Say why a name selects nothing: another name of a layer, another kind, or a misspelling."""
    everywhere = dict(model.named_modules(remove_duplicate=False))
    if given in everywhere and given:
        module = everywhere[given]
        for name, layer in layers.items():
            if layer is module:
                return f"{given!r} is the same layer as {name!r}; use that name"
        return (
            f"{given!r} is a {type(module).__name__}, which cannot be quantized; "
            f"the quantizable layers are {', '.join(layers)}"
        )
    near = difflib.get_close_matches(str(given), layers, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(layers)}"
    return f"{type(model).__name__} has no quantizable layer {given!r}; {hint}"
