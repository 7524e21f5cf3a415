"""A report as a notebook shows it: a table with a bar a layer, readable on light and dark pages."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from labkit.evaluate import quality_text

if TYPE_CHECKING:
    from labkit.report import LayerReport, Report

# The lab's colours for float and quantized; both stand out from a white and from a black page.
FLOAT, QUANTIZED, OVERHEAD = "#0077bb", "#d17600", "#8a8f98"
BAR_WIDTH = 220
_TABLE = "margin-top:6px;border-collapse:collapse;color:inherit;font:inherit"
_CELL = "padding:2px 10px;text-align:{side};white-space:nowrap"


def report_html(report: Report) -> str:
    """Return the report as one piece of HTML: sizes, quality, and a row with bars for each layer.

    >>> from torch import nn
    >>> from labkit.report import size_report
    >>> net = nn.Linear(10, 2)
    >>> "<svg" in report_html(size_report(net, net, method="none", bits=32))
    True
    """
    widest = max(max(layer.original_bytes, layer.bytes) for layer in report.layers) or 1
    head = "".join(
        f'<th style="{_CELL.format(side=side)}">{title}</th>'
        for title, side in (
            ("layer", "left"),
            ("kind", "left"),
            ("bits", "right"),
            ("bytes before", "right"),
            ("bytes now", "right"),
            (_legend(), "left"),
        )
    )
    rows = "".join(_row(layer, widest) for layer in report.layers)
    return (
        f"<div><b>{escape(report.method)}</b>: {report.original_bytes:,} → "
        f"<b>{report.quantized_bytes:,} bytes</b>, {report.compression_ratio:.2f} times smaller, "
        f"{report.bits_per_weight:.2f} bits per quantized weight{_quality(report)}"
        f'<table style="{_TABLE}"><tr>{head}</tr>{rows}</table></div>'
    )


def _row(layer: LayerReport, widest: int) -> str:
    cells = (
        (escape(layer.name or "(the model itself)"), "left"),
        (escape(layer.kind), "left"),
        ("" if layer.bits is None else str(layer.bits), "right"),
        (f"{layer.original_bytes:,}", "right"),
        (f"{layer.bytes:,}", "right"),
        (_bars(layer, widest), "left"),
    )
    tds = "".join(f'<td style="{_CELL.format(side=side)}">{text}</td>' for text, side in cells)
    return f"<tr>{tds}</tr>"


def _bars(layer: LayerReport, widest: int) -> str:
    """Two bars on the scale of the widest layer: before, and now in its parts."""
    scale = BAR_WIDTH / widest
    bars = [_bar(0, 2, layer.original_bytes * scale, FLOAT)]
    start = 0.0
    for size, colour in (
        (layer.code_bytes, QUANTIZED),
        (layer.scale_bytes + layer.other_bytes, OVERHEAD),
    ):
        bars.append(_bar(start, 9, size * scale, colour))
        start += size * scale
    return (
        f'<svg width="{BAR_WIDTH}" height="16" role="img" '
        f'aria-label="{layer.original_bytes} bytes before, {layer.bytes} now">{"".join(bars)}</svg>'
    )


def _bar(x: float, y: int, width: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="5" fill="{colour}"/>'


def _legend() -> str:
    return " ".join(
        f'<span style="color:{colour}">■</span> {name}'
        for name, colour in (
            ("before", FLOAT),
            ("codes", QUANTIZED),
            ("scales, bias, float", OVERHEAD),
        )
    )


def _quality(report: Report) -> str:
    if report.quality is None:
        return ""
    before, now = (escape(quality_text(q)) for q in (report.original_quality, report.quality))
    text = f"<br>quality: {before} → <b>{now}</b>"
    if report.control_quality is not None:
        text += f"<br>float, trained as long: {escape(quality_text(report.control_quality))}"
    return text
