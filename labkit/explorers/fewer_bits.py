"""Two pictures of what fewer bits do: eight weights of a trained layer, and a photograph."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labkit.affine import (
    QParams,
    choose_qparams,
    dequantize,
    quantize,
)
from labkit.explorers.panel import Panel, bits_slider, choice
from labkit.explorers.scene import (
    Axis,
    Cells,
    Image,
    Line,
    Mark,
    Plot,
    Points,
    Readout,
    Rule,
    Scene,
    Stems,
    Steps,
    Text,
)
from labkit.packing import pack
from labkit.zoo import mnist_mlp

SUBJECTS = {"numbers": "eight weights", "photo": "a photograph"}
_SHOWN = 8
# Squares of this many pixels are averaged; one row, through the face, is drawn as a curve.
_SQUARE = 4
_ROW = 69


@dataclass(frozen=True)
class State:
    """What the learner chooses: bits (2 to 8) and what is stored with them.

    >>> State().subject
    'numbers'
    """

    bits: int = 8
    subject: str = "numbers"


def controls() -> dict[str, Any]:
    """A slider over bit widths, and numbers or a photograph."""
    return {
        "bits": bits_slider(tooltip="How many bits each number keeps"),
        "subject": choice("store", [(words, name) for name, words in SUBJECTS.items()]),
    }


def scene(state: State) -> Scene:
    """The chosen subject before and after it is stored in a few bits.

    >>> scene(State(2, "photo")).readout("gray levels").value
    4
    """
    if state.subject not in SUBJECTS:
        raise ValueError(f"got subject {state.subject!r}; use one of {', '.join(SUBJECTS)}")
    return _numbers(state.bits) if state.subject == "numbers" else _photo(state.bits)


def explorer(**fields: Any) -> Panel:
    """The panel; `fields` are those of `State`.

    >>> print(explorer(bits=3).words().splitlines()[1])
    bits = 3, subject = numbers
    """
    return Panel(State(**fields), controls(), scene)


@cache
def weights() -> Tensor:
    """The trained network's last layer, (10, 128): the eight numbers are the first of its row 0.

    >>> weights().shape
    torch.Size([10, 128])
    """
    return mnist_mlp().fc3.weight.detach()


@cache
def photograph() -> Tensor:
    """A gray photograph (150, 128), float32 in 0..1, made smaller by averaging 4 × 4 pixels.

    Commodore Grace M. Hopper, U.S. Navy, 1984 (public domain), which comes with matplotlib.

    >>> photograph().shape
    torch.Size([150, 128])
    """
    from matplotlib.cbook import get_sample_data
    from matplotlib.image import imread

    with get_sample_data("grace_hopper.jpg") as file:
        colours = imread(file, format="jpg")
    gray = colours.astype(np.float64) @ (0.299, 0.587, 0.114) / 255
    rows, columns = (length // _SQUARE for length in gray.shape)
    squares = gray[: rows * _SQUARE, : columns * _SQUARE].reshape(rows, _SQUARE, columns, _SQUARE)
    return torch.from_numpy(squares.mean(axis=(1, 3)).astype(np.float32))


def _numbers(bits: int) -> Scene:
    qparams = choose_qparams(weights(), bits=bits, symmetric=True, signed=True)
    values = weights()[0, :_SHOWN]
    codes = quantize(values, qparams)
    kept = dequantize(codes, qparams)
    error = (values - kept).abs().max().item()
    end = qparams.scale.item() * qparams.quant_max
    left = len(codes.unique())
    return Scene(
        f"The first eight weights of the last layer, kept in {bits} bits each",
        [_table(values, codes, kept, bits), _number_line(values, kept, qparams)],
        readouts=[
            Readout(
                "different numbers left",
                left,
                f"of {len(values.unique())}",
                "measured",
                "quantized",
            ),
            Readout("step of the grid", qparams.scale.item(), "", "computed", digits=3),
            Readout("largest error here", error, "", "measured", "error", digits=3),
            Readout("levels in use", f"−{end:.2f} to {end:.2f}"),
        ],
        formulas=[_complement(codes.tolist(), bits)],
        description="Each weight moves to the nearest value that the grid has.",
    )


def _table(values: Tensor, codes: Tensor, kept: Tensor, bits: int) -> Plot:
    x = [1.6 + column for column in range(_SHOWN)]
    rows = (
        ("32-bit float", "float", [_signed(v) for v in values.tolist()]),
        ("code", "quantized", [_signed(code, 0) for code in codes.tolist()]),
        ("stored bits", "range", [_pattern(code, bits) for code in codes.tolist()]),
        ("stands for", "quantized", [_signed(v) for v in kept.tolist()]),
        ("error", "error", [_signed(v) for v in (values - kept).tolist()]),
    )
    marks: list[Mark] = []
    for number, (name, role, labels) in enumerate(rows):
        y = [len(rows) - 1 - number] * _SHOWN
        marks.append(Cells(x, y, labels, role, width=0.96, height=0.9, size=14))
        marks.append(Text(1.45, y[0] + 0.45, name, role, "end", bold=True, dy=5))
    ends = Axis("", 0, 9.6, show=False), Axis("", 0, len(rows), show=False)
    return Plot(marks, *ends, height=212, grid="none")


def _pattern(code: int, bits: int) -> str:
    """The bits of a code in two's complement."""
    return f"{code % 2**bits:0{bits}b}"


def _complement(codes: list[int], bits: int) -> str:
    """Say how the first negative code is written in bits."""
    code = next(code for code in codes if code < 0)
    sum_ = f"{code % 2**bits} − {2**bits} = {_signed(code, 0)}"
    return f"negative codes are stored in two's complement: {_pattern(code, bits)} is {sum_}"


def _number_line(values: Tensor, kept: Tensor, qparams: QParams) -> Plot:
    # Symmetric weights never get the lowest code: the largest of them has the highest, or minus it.
    grid = dequantize(torch.arange(-qparams.quant_max, qparams.quant_max + 1), qparams)
    before, after = values.tolist(), kept.tolist()
    tips = [f"{_signed(v, 6)}\nbecomes {_signed(k, 6)}" for v, k in zip(before, after, strict=True)]
    marks: list[Mark] = [
        Stems(grid, [0.34] * len(grid), "range", size=0, baseline=0.1, width=1),
        *(
            Line([v, k], [0.78, 0.22], "error", width=1.5)
            for v, k in zip(before, after, strict=True)
        ),
        Points(before, [0.78] * _SHOWN, "float", "32-bit float", size=6, tips=tips),
        Points(after, [0.22] * _SHOWN, "quantized", "nearest value on the grid", size=6, tips=tips),
    ]
    reach = 0.23
    x, y = Axis("weight", -reach, reach), Axis("", 0, 1, show=False)
    return Plot(marks, x, y, height=190, grid="none")


@cache
def _photo(bits: int) -> Scene:
    pixels = photograph()
    qparams = choose_qparams(pixels, bits=bits)
    codes = quantize(pixels, qparams)
    kept = dequantize(codes, qparams)
    nbytes, whole = pack(codes, bits).numel(), pixels.numel() * pixels.element_size()
    rows, columns = pixels.shape
    return Scene(
        f"A photograph of {rows} × {columns} gray values, kept in {bits} bits each",
        [
            [
                _picture(_original(), "32-bit floats"),
                _picture(_image(kept), f"{bits} bits"),
                _profile(pixels[_ROW], kept[_ROW]),
            ]
        ],
        readouts=[
            Readout("gray levels", 2**bits, "", "computed", "quantized"),
            Readout("size", nbytes, "bytes", "measured"),
            Readout("as 32-bit floats", whole, "bytes", "measured", "float"),
            Readout("compression", f"{whole / nbytes:.2f}", "×", "computed"),
        ],
        description="The photograph, the same with few gray levels, and one row of both as curves.",
    )


@cache
def _original() -> Image:
    return _image(photograph())


def _image(pixels: Tensor) -> Image:
    return Image(pixels, 0, pixels.shape[1], 0, pixels.shape[0])


def _picture(image: Image, title: str) -> Plot:
    rows, columns = image.shape
    marks = [image, Rule(rows - _ROW - 0.5, axis="y", role="quantized", width=1.5)]
    x, y = Axis("", 0, columns, show=False), Axis("", 0, rows, show=False)
    return Plot(marks, x, y, title=title, height=350)


def _profile(before: Tensor, after: Tensor) -> Plot:
    edges = range(len(before) + 1)
    marks = [
        Steps(edges, after, "quantized", "stored", width=2),
        Line([edge + 0.5 for edge in edges[:-1]], before, "float", "photograph", width=1.5),
    ]
    x, y = Axis("pixel along the dashed row", 0, len(before)), Axis("gray value", 0, 1)
    return Plot(marks, x, y, height=350, weight=1.35)


def _signed(value: float, digits: int = 4) -> str:
    """A number with a fixed count of decimals, so that the rows of a table line up."""
    # Adding 0.0 turns a rounded -0.0 into 0.0.
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")
