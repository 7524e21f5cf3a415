"""Which layer is to blame: quantize one at a time, or follow the error through all of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from html import escape
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from labkit.attention import can_split, split_attention
from labkit.calibration import arguments_of
from labkit.compare import cosine, sqnr
from labkit.evaluate import Accuracy, measured, quality_text
from labkit.layers import QuantLayer
from labkit.quantize import quantizable_layers, quantize_model
from labkit.recipe import notes
from labkit.report_html import QUANTIZED
from labkit.selection import select_bits

Quality = Callable[[nn.Module], Accuracy | float]
# Where the bars end: the SQNR of 8-bit codes is about 40 dB.
BAR_WIDTH, BAR_DB = 160, 60
# No layer has this name: that of the model itself is "".
OUTPUT = "the output"


@dataclass(frozen=True)
class LayerBlame:
    """How far one layer takes the values from the float model's.

    `cosine` as in `labkit.compare.cosine`, `sqnr_db` in dB (infinite: no difference); `quality` is
    what the quality function returned, None without one. `bits` is None where widths differ.
    """

    name: str
    kind: str
    bits: int | None
    cosine: float
    sqnr_db: float
    quality: Accuracy | float | None = None


@dataclass(frozen=True, repr=False)
class BlameTable:
    """One row a layer, in the model's order, and one for all of them together.

    `title` says what the numbers compare. `together` is the output of the model in which every row
    is quantized, `original_quality` the quality of the float model.
    """

    title: str
    rows: tuple[LayerBlame, ...]
    together: LayerBlame
    original_quality: Accuracy | float | None = None

    @property
    def worst(self) -> LayerBlame:
        """The row with the lowest SQNR; of equal ones the first."""
        return min(self.rows, key=lambda row: row.sqnr_db)

    def __str__(self) -> str:
        """A line a layer."""
        rows = (*self.rows, self.together)
        names, kinds = (max(len(getattr(row, part)) for row in rows) for part in ("name", "kind"))
        lines = [
            f"  {row.name:<{names}}  {row.kind:<{kinds}}  {_width(row):>6}  "
            f"cosine {row.cosine:.4f}  SQNR {row.sqnr_db:5.1f} dB  {_quality(row)}".rstrip()
            for row in rows
        ]
        if self.original_quality is not None:
            lines.append(f"  float: {quality_text(self.original_quality)}")
        return "\n".join([self.title, *lines])

    # At the prompt, the table says more than the fields.
    __repr__ = __str__

    def _repr_html_(self) -> str:
        """What a notebook shows: the same table, with a bar for each SQNR."""
        with_quality = self.original_quality is not None
        titles = ["layer", "kind", "width", "cosine", "SQNR (longer is better)"]
        titles += ["quality"] * with_quality
        head = "".join(f'<th style="text-align:left;padding:2px 10px">{t}</th>' for t in titles)
        body = "".join(_html_row(row, with_quality) for row in (*self.rows, self.together))
        foot = (
            f"<div>float: {escape(quality_text(self.original_quality))}</div>"
            if with_quality
            else ""
        )
        return (
            f"<div><b>{escape(self.title)}</b>"
            f'<table style="border-collapse:collapse"><tr>{head}</tr>{body}</table>{foot}</div>'
        )


def layer_blame(
    model: nn.Module,
    inputs: Tensor | tuple,
    *,
    bits: int | Mapping[str, int] = 8,
    quality: Quality | None = None,
    **options: Any,
) -> BlameTable:
    """Quantize one layer at a time, all others in float, and measure what it does to the output.

    inputs: one batch as the model takes it. bits, `exclude` and further `options` (method,
    granularity, observer, ...) as in `labkit.quantize.quantize_model`; static is calibrated on
    `inputs` unless `calibration_data` is given. `quality` is called with each model. The rows do
    not add up to the last one, which has all layers quantized at once. The model is not modified.
    Raises ValueError as `quantize_model` does, and for an output that is no tensor.

    >>> net = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> [row.name for row in layer_blame(net, torch.ones(3, 8), bits=2).rows]
    ['0', '2']
    """
    widths = select_bits(model, bits, options.pop("exclude", ()))
    method = options.get("method", "weight_only")
    if method == "static":
        options.setdefault("calibration_data", [inputs])
    reference = copy.deepcopy(model).eval()
    wanted = _outputs(reference, [], inputs)[OUTPUT][0]
    layers = quantizable_layers(model)

    def blamed(name: str, kind: str, chosen: dict[str, int]) -> LayerBlame:
        quantized, _ = quantize_model(model, bits=chosen, **options)
        got = _outputs(quantized, [], inputs)[OUTPUT][0]
        width = _common(chosen.values())
        found = measured(quality, quantized)
        return LayerBlame(name, kind, width, cosine(wanted, got), sqnr(wanted, got), found)

    return BlameTable(
        f"{method}: the model's output when only this layer is quantized",
        tuple(blamed(name, type(layers[name]).__name__, {name: widths[name]}) for name in widths),
        blamed("all of them", "", widths),
        measured(quality, reference),
    )


def layer_errors(model: nn.Module, quantized: nn.Module, inputs: Tensor | tuple) -> BlameTable:
    """Compare what leaves each layer of a quantized model with what leaves it in the float model.

    `quantized` is what `quantize_model` made of `model`; the float model is given the same folded
    batch norms and split attention, which change nothing but where values can be read. A row holds
    the errors of that layer *and* of all before it; a layer that the inputs do not reach has none.
    Both models keep their modes and no hooks. Raises ValueError for two models that do not belong
    together.

    >>> net = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> table = layer_errors(net, quantize_model(net, bits=8)[0], torch.ones(3, 8))
    >>> [row.name for row in table.rows], table.worst.sqnr_db > 30
    (['0', '2'], True)
    """
    layers = {n: m for n, m in quantized.named_modules() if isinstance(m, QuantLayer)}
    if not layers:
        raise ValueError(f"{type(quantized).__name__} has no quantized layers; quantize it first")
    reference = _in_the_form_of(quantized, model)
    known = dict(reference.named_modules())
    strange = [name for name in layers if name not in known]
    if strange:
        raise ValueError(
            f"the float model has no layer {', '.join(strange)}, the quantized one has; give the "
            "model that was quantized"
        )
    wanted, got = (_outputs(m, list(layers), inputs) for m in (reference, quantized))

    def row(name: str, kind: str, width: int | None, key: str) -> LayerBlame:
        if len(wanted[key]) != len(got[key]):
            raise ValueError(
                f"{name} runs {len(wanted[key])} times in the float model and {len(got[key])} "
                "times in the quantized one; only runs of the same way can be compared"
            )
        pairs = list(zip(wanted[key], got[key], strict=True))
        flat = (torch.cat([pair[side].flatten() for pair in pairs]) for side in (0, 1))
        return LayerBlame(name, kind, width, fmean(cosine(*pair) for pair in pairs), sqnr(*flat))

    return BlameTable(
        f"{notes(quantized)['method']}: what leaves each layer, against the float model",
        tuple(row(n, type(m).__name__, m.bits, n) for n, m in layers.items() if got[n]),
        row("output", "", _common(m.bits for m in layers.values()), OUTPUT),
    )


def _in_the_form_of(quantized: nn.Module, model: nn.Module) -> nn.Module:
    """Return a float copy of `model` whose layers stand for the same as in the quantized model."""
    made, reference = notes(quantized), copy.deepcopy(model).eval()
    whole = [name for name, module in model.named_modules() if can_split(module)]
    reference = split_attention(reference, [name for name in made["attention"] if name in whole])
    if made["folded"]:
        # Imported here, as tracing is slow to import and seldom needed.
        from labkit.transform import fold_batch_norm

        reference = fold_batch_norm(reference)
    return reference


def _outputs(model: nn.Module, names: list[str], inputs: Tensor | tuple) -> dict[str, list[Tensor]]:
    """Run the model once; {layer: what left it, a tensor a call}, with the model's own output."""
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    arguments, named = arguments_of(model, inputs)
    with ExitStack() as stack:
        for name in names:
            keep = partial(_keep, found[name])
            stack.callback(model.get_submodule(name).register_forward_hook(keep).remove)
        for module in model.modules():
            stack.callback(setattr, module, "training", module.training)
            module.training = False
        with torch.no_grad():
            output = model(*arguments, **named)
    if not isinstance(output, Tensor):
        kind = type(output).__name__
        raise ValueError(f"the model must return one tensor to compare, got {kind}")
    return {**found, OUTPUT: [output]}


def _keep(found: list[Tensor], module: nn.Module, given: tuple, output: Tensor) -> None:
    # A copy: an in-place activation may follow.
    found.append(output.detach().clone())


def _common(widths: Iterable[int]) -> int | None:
    different = set(widths)
    return different.pop() if len(different) == 1 else None


def _quality(row: LayerBlame) -> str:
    return "" if row.quality is None else quality_text(row.quality)


def _width(row: LayerBlame) -> str:
    return "mixed" if row.bits is None else f"{row.bits} bits"


def _html_row(row: LayerBlame, with_quality: bool) -> str:
    width = BAR_WIDTH * min(max(row.sqnr_db, 0.0), BAR_DB) / BAR_DB
    bar = (
        f'<svg width="{BAR_WIDTH}" height="9"><rect width="{width:.1f}" height="9" '
        f'fill="{QUANTIZED}"/></svg> {row.sqnr_db:.1f} dB'
    )
    cells = [escape(row.name), escape(row.kind), _width(row), f"{row.cosine:.4f}", bar]
    cells += [escape(_quality(row))] * with_quality
    return "<tr>" + "".join(f'<td style="padding:2px 10px">{c}</td>' for c in cells) + "</tr>"
