"""What a quantized model costs: every byte counted, layer by layer, with the quality beside it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from labkit.evaluate import Accuracy, quality_text
from labkit.layers import QuantLayer
from labkit.report_html import report_html


@dataclass(frozen=True)
class LayerReport:
    """The bytes of one layer, or of one module that stayed as it was.

    `kind` is the class, "old → new" for a module that was folded or moved into others. `bits` is
    the width of one weight, that of its float format in a layer left float, and None where there is
    no weight. `scale_bytes` are scales and zero points of the weight. `other_bytes` are the rest:
    biases, grids of the activations, everything in a layer left float. `original_bytes` is what the
    original model stores under that name.
    """

    name: str
    kind: str
    shape: tuple[int, ...] | None
    bits: int | None
    code_bytes: int
    scale_bytes: int
    other_bytes: int
    original_bytes: int

    @property
    def bytes(self) -> int:
        """All bytes of this layer in the quantized model."""
        return self.code_bytes + self.scale_bytes + self.other_bytes


@dataclass(frozen=True, repr=False)
class Report:
    """What quantizing a model changed: its size, layer by layer, and its quality.

    `original_bytes` and `quantized_bytes` count every tensor that the two models store, once: the
    size of a safetensors file without its header. `compression_ratio` is the first divided by the
    second. `bits_per_weight` is 8 × (code_bytes + scale_bytes) of the quantized layers, padding
    included, divided by the number of their weights; biases and layers left float do not enter.
    `bits` is the number, or the {layer: bits}, that was asked for; `activation_bits` is None where
    activations stay float. `quality` and `original_quality` are what `evaluate` returned, an
    `Accuracy` with its interval or a float; None without it. `control_quality`, of qat alone, is
    that of the float model trained as long without quantization: what training itself has changed.
    """

    original_bytes: int
    quantized_bytes: int
    compression_ratio: float
    bits_per_weight: float
    method: str
    bits: int | dict[str, int]
    activation_bits: int | None
    layers: tuple[LayerReport, ...]
    quality: Accuracy | float | None = None
    original_quality: Accuracy | float | None = None
    control_quality: Accuracy | float | None = None

    def as_dict(self) -> dict:
        """Return everything as plain dicts, lists, numbers and strings, ready for JSON."""
        values = dataclasses.asdict(self)
        values["layers"] = [
            {
                **dataclasses.asdict(layer),
                "shape": None if layer.shape is None else list(layer.shape),
                "bytes": layer.bytes,
            }
            for layer in self.layers
        ]
        return values

    def __str__(self) -> str:
        """The sizes, the quality, and one line a layer."""
        lines = [
            f"{self.method}: {self.original_bytes:,} → {self.quantized_bytes:,} bytes, "
            f"{self.compression_ratio:.2f} times smaller; "
            f"{self.bits_per_weight:.2f} bits per quantized weight"
        ]
        if self.quality is not None:
            before, now = (quality_text(q) for q in (self.original_quality, self.quality))
            lines.append(f"quality: {before} → {now}")
        if self.control_quality is not None:
            lines.append(f"float, trained as long: {quality_text(self.control_quality)}")
        name_width = max(len(layer.name) for layer in self.layers)
        kind_width = max(len(layer.kind) for layer in self.layers)
        lines += [
            f"  {layer.name:<{name_width}}  {layer.kind:<{kind_width}}  "
            f"{'' if layer.bits is None else f'{layer.bits} bits':>7}  "
            f"{layer.original_bytes:>11,} → {layer.bytes:>11,} bytes"
            for layer in self.layers
        ]
        return "\n".join(lines)

    # In a notebook, or at the prompt, the table says more than the fields.
    __repr__ = __str__

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return report_html(self)


def stored_tensors(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return what a file has to hold: {name: tensor}, each once, and {other name: name} of ties.

    These are the entries of the state_dict: parameters and persistent buffers. Raises ValueError
    for a module with extra state that is not a tensor.

    >>> net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    >>> net[1].weight = net[0].weight
    >>> list(stored_tensors(net)[0]), stored_tensors(net)[1]
    (['0.weight'], {'1.weight': '0.weight'})
    """
    tensors: dict[str, Tensor] = {}
    ties: dict[str, str] = {}
    first_name: dict[int, str] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if not isinstance(tensor, Tensor):
            raise ValueError(
                f"{name} is a {type(tensor).__name__}; only tensors can be counted and stored"
            )
        if first_name.setdefault(id(tensor), name) == name:
            tensors[name] = tensor.detach()
        else:
            ties[name] = first_name[id(tensor)]
    return tensors, ties


def size_report(
    original: nn.Module,
    quantized: nn.Module,
    *,
    method: str,
    bits: int | Mapping[str, int],
    activation_bits: int | None = None,
    quality: Accuracy | float | None = None,
    original_quality: Accuracy | float | None = None,
    control_quality: Accuracy | float | None = None,
) -> Report:
    """Count the bytes of both models, layer by layer, and return them as a `Report`.

    `quantized` has a module at every name of `original`, as a folded batch norm leaves an identity.
    What stands at several places is counted at the first.

    >>> net = nn.Linear(10, 2)
    >>> report = size_report(net, net, method="none", bits=32)
    >>> report.quantized_bytes, report.layers[0].kind
    (88, 'Linear')
    """
    before, after = _by_owner(original), _by_owner(quantized)
    originals = dict(original.named_modules())
    layers = tuple(
        _layer_report(name, originals.get(name), module, before.get(name), after.get(name))
        for name, module in quantized.named_modules()
        if name in before or name in after
    )
    original_bytes = sum(layer.original_bytes for layer in layers)
    quantized_bytes = sum(layer.bytes for layer in layers)
    quantized_layers = [m for m in quantized.modules() if isinstance(m, QuantLayer)]
    # Keyed by the codes, so that tied weights count once.
    weights = sum({id(m.packed): math.prod(m.weight_shape) for m in quantized_layers}.values())
    weight_bytes = sum(layer.code_bytes + layer.scale_bytes for layer in layers)
    return Report(
        original_bytes,
        quantized_bytes,
        original_bytes / quantized_bytes if quantized_bytes else math.nan,
        8 * weight_bytes / weights if weights else math.nan,
        method,
        dict(bits) if isinstance(bits, Mapping) else bits,
        activation_bits,
        layers,
        _plain(quality),
        _plain(original_quality),
        _plain(control_quality),
    )


def _by_owner(model: nn.Module) -> dict[str, dict[str, Tensor]]:
    """{module name: {tensor name: tensor}}; the grid of a layer's input belongs to the layer."""
    owners: dict[str, dict[str, Tensor]] = {}
    for name, tensor in stored_tensors(model)[0].items():
        owner, _, part = name.rpartition(".")
        if owner.rpartition(".")[2] == "input_quantizer":
            owner, part = owner.removesuffix("input_quantizer").removesuffix("."), f"input_{part}"
        owners.setdefault(owner, {})[part] = tensor
    return owners


def _layer_report(
    name: str,
    original: nn.Module | None,
    module: nn.Module,
    before: dict[str, Tensor] | None,
    after: dict[str, Tensor] | None,
) -> LayerReport:
    sizes = {part: _bytes(tensor) for part, tensor in (after or {}).items()}
    total = sum(sizes.values())
    codes = scales = 0
    if isinstance(module, QuantLayer):
        codes = sizes.get("packed", 0)
        scales = sizes.get("scale", 0) + sizes.get("zero_points", 0)
        shape, bits = module.weight_shape, module.bits
    else:
        weight = (after or {}).get("weight")
        shape = None if weight is None else tuple(weight.shape)
        bits = None if weight is None else 8 * weight.element_size()
    kind = type(module).__name__
    if not after and original is not None and type(original) is not type(module):
        kind = f"{type(original).__name__} → {kind}"
    before_bytes = sum(_bytes(tensor) for tensor in (before or {}).values())
    return LayerReport(name, kind, shape, bits, codes, scales, total - codes - scales, before_bytes)


def _plain(quality: Any) -> Any:
    """A number of torch's or numpy's as Python's own."""
    return quality.item() if hasattr(quality, "item") else quality


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
