"""The recipe of a quantized model: what a file says beside the tensors, and the way back.

A recipe is plain data (dicts, lists, numbers, strings), ready for JSON.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from labkit.attention import can_split, split_attention
from labkit.layers import LAYERS, ActivationQuantizer, QuantLayer
from labkit.modules import replace_modules
from labkit.packing import unpack
from labkit.qparams import QParams, code_range
from labkit.recipe_check import check_recipe


def recipe_of(model: nn.Module) -> dict[str, Any]:
    """Return how `model` was quantized: the method, the folded batch norms, and every layer's grid.

    Raises ValueError for a model without quantized layers and for one that is being calibrated.

    >>> from labkit.quantize import quantize_model
    >>> recipe = recipe_of(quantize_model(nn.Sequential(nn.Linear(4, 2)), bits=4)[0])
    >>> recipe["layers"]["0"]["bits"], recipe["layers"]["0"]["shape"]
    (4, [2, 4])
    """
    layers = {n: _facts(n, m) for n, m in model.named_modules() if isinstance(m, QuantLayer)}
    if not layers:
        raise ValueError(
            f"{type(model).__name__} has no quantized layers; call quantize_model first"
        )
    return _plain({**notes(model), "layers": layers})


def notes(model: nn.Module) -> dict[str, Any]:
    """Return what `quantize_model` noted on a model, because its layers no longer show it.

    >>> notes(nn.Linear(2, 2))
    {'method': 'by hand', 'attention': [], 'folded': [], 'biases': []}
    """
    # `biases`: layers that were given a bias by `labkit.bias_correction`.
    unknown = {"method": "by hand", "attention": [], "folded": [], "biases": []}
    return {**unknown, **getattr(model, "quantization_notes", {})}


def rebuilt(model: nn.Module, recipe: dict[str, Any], tensors: Mapping[str, Tensor]) -> nn.Module:
    """Return the quantized model that the recipe and the stored tensors describe, in eval mode.

    `model` gives the structure, its weights are not read. `recipe["ties"]` maps the names of
    tensors that are stored under another name. Raises ValueError where the structure differs, and
    for a recipe that is not made like those of `recipe_of`.
    """
    check_recipe(recipe, tensors)
    work = copy.deepcopy(model).eval()
    for name in recipe["attention"]:
        if not can_split(_module(work, name)):
            raise ValueError(f"{name!r} is no MultiheadAttention, as it was in the saved model")
    work = split_attention(work, recipe["attention"])
    for name in recipe["folded"]:
        _module(work, name)
        work.set_submodule(name, nn.Identity())
    stored = {**tensors, **{name: tensors[first] for name, first in recipe["ties"].items()}}
    layers = {name: _module(work, name) for name in recipe["layers"]}
    new = {m: _rebuilt_layer(n, m, recipe["layers"][n], stored) for n, m in layers.items()}
    work = replace_modules(work, new)
    # Files of before there was bias correction do not name it.
    biases = recipe.get("biases", [])
    _fill(work, tensors, recipe["ties"], folded=bool(recipe["folded"]), biases=biases)
    kept = {key: recipe[key] for key in ("method", "attention", "folded")}
    work.quantization_notes = {**kept, "biases": biases}
    return work


def _facts(name: str, layer: QuantLayer) -> dict[str, Any]:
    quantizer = layer.input_quantizer
    if quantizer is not None and quantizer.mode == "observe":
        raise ValueError(f"layer {name!r} is being calibrated; finish that first")
    try:
        # What was changed by hand must not become a file that cannot be read again.
        _ = layer.qparams, layer.codes, quantizer and quantizer.qparams
    except ValueError as error:
        raise ValueError(f"layer {name!r} is not in order: {error}") from None
    dtype = getattr(layer, "dtype", None)
    return {
        "kind": type(layer).__name__,
        "bits": layer.bits,
        "shape": layer.weight_shape,
        "signed": layer.signed,
        "axis": layer.axis,
        "group_size": layer.group_size,
        "geometry": _geometry(layer, type(layer)),
        "dtype": None if dtype is None else str(dtype).removeprefix("torch."),
        "input": quantizer
        and {
            "mode": quantizer.mode,
            "bits": quantizer.bits,
            "per_token": quantizer.per_token,
            "code_range": quantizer.code_range,
        },
    }


def _rebuilt_layer(
    name: str, module: nn.Module, facts: dict[str, Any], stored: Mapping[str, Tensor]
) -> QuantLayer:
    if isinstance(module, QuantLayer):
        raise ValueError(f"{name!r} is quantized already; give the float model")
    kind = LAYERS.get(type(module))
    if kind is None or kind.__name__ != facts["kind"]:
        raise ValueError(
            f"{name!r} is a {type(module).__name__}, and {facts['kind']} was stored for it"
        )
    for what, ours, theirs in (
        ("a weight of shape", list(module.weight.shape), facts["shape"]),
        ("the settings", _plain(_geometry(module, kind)), facts["geometry"]),
    ):
        if ours != theirs:
            raise ValueError(f"layer {name!r} has {what} {ours}, stored was {theirs}")
    prefix = f"{name}." if name else ""

    def tensor(part: str) -> Tensor:
        if prefix + part not in stored:
            raise ValueError(f"the file lacks {prefix}{part}")
        return stored[prefix + part]

    bits, signed, scale = facts["bits"], facts["signed"], tensor("scale")
    zero_point = torch.zeros(scale.shape)
    if f"{prefix}zero_points" in stored:
        zero_point = unpack(tensor("zero_points"), bits, tuple(scale.shape), signed)
    grid = QParams(scale, zero_point, *code_range(bits, signed), facts["axis"], facts["group_size"])
    codes = unpack(tensor("packed"), bits, tuple(facts["shape"]), signed)
    quantizer = None
    if (given := facts["input"]) is not None:
        qparams = None
        if given["mode"] == "static":
            ends = tensor("input_quantizer.scale"), tensor("input_quantizer.zero_point")
            qparams = QParams(*ends, *given["code_range"])
        quantizer = ActivationQuantizer(
            given["bits"], given["mode"], per_token=given["per_token"], qparams=qparams
        )
    layer = kind.from_codes(module, codes, bits, grid, quantizer)
    layer.name = name
    return layer if facts["dtype"] is None else layer.to(getattr(torch, facts["dtype"]))


def _fill(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    ties: Mapping[str, str],
    folded: bool,
    biases: list[str],
) -> None:
    """Put every stored tensor into the model; what was stored once is one tensor again."""
    wanted = model.state_dict(keep_vars=True)
    missing = sorted(wanted.keys() - tensors.keys() - ties.keys())
    if missing:
        raise ValueError(f"the file holds nothing for {', '.join(missing)}")
    parameters: dict[str, nn.Parameter] = {}
    for name in sorted((*tensors, *ties)):
        first = ties.get(name, name)
        tensor, old = tensors[first], wanted.get(name)
        owner, _, part = name.rpartition(".")
        module = _module(model, owner)
        # Folding and bias correction give a bias to a layer that had none.
        may_grow = folded or owner in biases
        grown = may_grow and part == "bias" and module._parameters.get(part, module) is None
        if old is None and not grown:
            raise ValueError(f"the model has no {name}")
        if old is not None and old.shape != tensor.shape:
            raise ValueError(
                f"{name} has shape {tuple(old.shape)}, stored was {tuple(tensor.shape)}"
            )
        if part in module._parameters:
            trained = tensor.is_floating_point() and (old is None or old.requires_grad)
            tensor = parameters.setdefault(first, nn.Parameter(tensor, requires_grad=trained))
        setattr(module, part, tensor)
    meta = [n for n, t in (*model.named_parameters(), *model.named_buffers()) if t.is_meta]
    if meta:
        raise ValueError(
            f"{', '.join(meta)} is no part of the state_dict and so not in the file; build the "
            "model on the CPU instead of the meta device"
        )


def _module(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        raise ValueError(f"the model has no layer {name!r}") from None


def _geometry(layer: nn.Module, kind: type[QuantLayer]) -> dict[str, Any]:
    return {name: getattr(layer, name) for name in kind.geometry}


def _plain(value: object) -> Any:
    """Return it as JSON gives it back: tuples become lists."""
    return json.loads(json.dumps(value))
