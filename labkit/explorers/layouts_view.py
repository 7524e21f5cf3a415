"""The same 32 weights in three byte layouts of real files, byte by byte.

ONNX int4 (labkit's own order) keeps neighbours in one byte; GGUF's Q4_0 pairs value j with value
j + 16 and puts a half-precision scale in front; Q8_0 gives every value a byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from labkit.explorers.drawing.text import short
from labkit.explorers.panel import Panel, int_slider
from labkit.explorers.scene import Axis, Cells, Plot, Points, Readout, Rule, Scene, Stems, Text
from labkit.explorers.storage import measure, weights
from labkit.formats import Encoded, Uniform
from labkit.layouts import BLOCK, decode_q4_0, decode_q8_0, encode_q4_0, encode_q8_0

ONNX = Uniform(4, BLOCK, symmetric=True)
APART = 1.5
ROLES = {"ONNX int4": "quantized", "Q4_0": "code3", "Q8_0": "code2"}


@dataclass(frozen=True)
class State:
    """Which block of 32 weights, and which of its values is followed through the layouts.

    >>> State().value
    5
    """

    block: int = 3150
    value: int = 5


@dataclass(frozen=True, eq=False)
class Stored:
    """The whole layer in the three layouts: what is stored and what comes back, by block.

    >>> stored().q4.shape
    torch.Size([6272, 18])
    """

    onnx: Encoded
    q4: Tensor
    q8: Tensor
    back: dict[str, Tensor]


@cache
def stored() -> Stored:
    """Encode the layer once in every layout.

    >>> stored().q8.shape
    torch.Size([6272, 34])
    """
    x = weights()
    onnx, q4, q8 = ONNX.encode(x), encode_q4_0(x), encode_q8_0(x)
    back = {"ONNX int4": onnx.decode(), "Q4_0": decode_q4_0(q4), "Q8_0": decode_q8_0(q8)}
    return Stored(onnx, q4, q8, {name: y.reshape(-1, BLOCK) for name, y in back.items()})


@cache
def half_scale_errors() -> Tensor:
    """Return by how much half precision moves each block's Q4_0 scale, relative to the scale.

    >>> bool(half_scale_errors().max() <= 2**-11)
    True
    """
    exact = _exact_scales()
    half = stored().q4[:, :2].contiguous().view(torch.float16).squeeze(-1)
    return ((half.double() - exact.double()) / exact.double()).abs()


def exact_q4_0() -> Tensor:
    """Return the layer as Q4_0 would give it back if it kept its scales in float32, by block.

    >>> exact_q4_0().shape
    torch.Size([6272, 32])
    """
    packed = stored().q4[:, 2:]
    codes = torch.cat([packed & 15, packed >> 4], dim=-1).float() - 8
    return codes * _exact_scales().unsqueeze(-1)


def controls() -> dict:
    """Return the panel's controls.

    >>> list(controls())
    ['value', 'block']
    """
    last = weights().numel() // BLOCK - 1
    return {
        "value": int_slider("follow value", 0, BLOCK - 1, tooltip="Where do its bits live?"),
        "block": int_slider("block of 32 weights", 0, last, tooltip="Walk through the layer"),
    }


def scene(state: State) -> Scene:
    """Draw the bytes of one block in every layout, and the error of each.

    >>> scene(State()).readout("Q4_0").value
    4.5
    """
    count = weights().numel()
    files = stored()
    error = half_scale_errors()[state.block].item()
    return Scene(
        f"Value {state.value} of block {state.block} in three byte layouts",
        [_bytes(state), _errors(state)],
        readouts=[
            Readout("Q4_0", 8 * files.q4.numel() / count, "bits per weight", "measured", "code3"),
            Readout(
                "int4 + float32 scale",
                measure(ONNX, "layer").bits_per_weight,
                "bits",
                "measured",
                "quantized",
            ),
            Readout("Q8_0", 8 * files.q8.numel() / count, "bits", "measured", "code2"),
            Readout("half scale is off by", f"{100 * error:.4f}", "%", "measured", "error"),
        ],
        formulas=_arithmetic(state),
        description="Bytes of one block as boxes: low half below, high half above, with the number "
        "of the value that lives there; below, the error of each of the 32 values.",
    )


def explorer(**fields) -> Panel:
    """Return the live panel; fields of `State` set where it starts.

    >>> explorer(value=20).state.value
    20
    """
    return Panel(State(**fields), controls(), scene)


def place(layout: str, value: int) -> tuple[int, int]:
    """Return (byte after the scale, first bit in it) where a layout keeps a value of a block.

    >>> place("ONNX int4", 5), place("Q4_0", 5), place("Q4_0", 21), place("Q8_0", 5)
    ((2, 4), (5, 0), (5, 4), (5, 0))
    """
    if layout == "ONNX int4":
        return value // 2, 4 * (value % 2)
    if layout == "Q4_0":
        return value % 16, 4 * (value // 16)
    return value, 0


def raw_bytes(layout: str, block: int) -> tuple[list[int], list[int]]:
    """Return the bytes of one block as (scale bytes, code bytes).

    >>> [len(part) for part in raw_bytes("Q4_0", 0)]
    [2, 16]
    """
    files = stored()
    if layout == "ONNX int4":
        half = BLOCK // 2
        scale = files.onnx.tensors["scale"][block : block + 1].view(torch.uint8)
        return scale.tolist(), files.onnx.tensors["codes"][half * block :][:half].tolist()
    data = (files.q4 if layout == "Q4_0" else files.q8)[block].tolist()
    return data[:2], data[2:]


def _exact_scales() -> Tensor:
    """Q4_0's scale of every block before it is rounded to half precision."""
    blocks = weights().reshape(-1, BLOCK)
    return blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True)).squeeze(-1) / -8


def _bytes(state: State) -> Plot:
    marks: list = []
    for row, layout in enumerate(ROLES):
        base = 6.4 - 3.0 * row
        scale, codes = raw_bytes(layout, state.block)
        own = layout == "ONNX int4"
        # Bytes that stand in another tensor stand apart.
        shift = 4 + APART if own else 2
        kind = "float32, in a tensor of its own" if own else "half precision, in front of the codes"
        marks.append(
            Cells(
                range(len(scale)),
                [base] * len(scale),
                [f"{b:02x}" for b in scale],
                "muted",
                0.94,
                1.8,
                12,
                True,
                tips=[f"{layout}: byte {i} of the scale\n{kind}" for i in range(len(scale))],
            )
        )
        halves = 1 if layout == "Q8_0" else 2
        at = {place(layout, value): value for value in range(BLOCK)}
        keys = sorted(at)
        chosen = [at[key] == state.value for key in keys]
        for strong in (False, True):
            mine = [key for key, is_chosen in zip(keys, chosen, strict=True) if is_chosen == strong]
            marks.append(
                Cells(
                    [shift + byte for byte, _ in mine],
                    [base + (0.9 if bit else 0.0) for _, bit in mine],
                    [str(at[key]) for key in mine],
                    ROLES[layout] if strong else "range",
                    0.94,
                    0.85 if halves == 2 else 1.8,
                    11,
                    strong,
                    [_tip(layout, at[key], key, codes[key[0]]) for key in mine],
                )
            )
        marks += [
            Text(shift + j + 0.47, base - 0.55, f"{b:02x}", "muted", size=11)
            for j, b in enumerate(codes)
        ]
        if own:
            marks.append(Text(2, base - 0.55, "other tensor", "muted", size=11))
        total = len(scale) + len(codes)
        marks.append(Text(-6.6, base + 1.05, layout, ROLES[layout], "start", 14, True))
        marks.append(Text(-6.6, base + 0.2, f"{total} bytes", "muted", "start", 12))
    return Plot(
        marks,
        Axis("byte", -6.6, 36.2, show=False),
        Axis("layout", -0.5, 8.4, show=False),
        title="Number of the value in each half byte (low half below); on the left: the scale",
        height=270,
        grid="none",
    )


def _tip(layout: str, value: int, key: tuple[int, int], byte: int) -> str:
    number, bit = key
    half = "all of it" if layout == "Q8_0" else ("high half" if bit else "low half")
    return f"{layout}: value {value}\nbyte {number} of the codes = 0x{byte:02x}, {half}"


def _errors(state: State) -> Plot:
    """The error of every value in every layout."""
    x = weights().reshape(-1, BLOCK)[state.block]
    here = torch.arange(BLOCK)
    marks: list = [Rule(state.value, "", "range"), Rule(0, "", "ink", "y", dashed=False, width=1)]
    for offset, (layout, role) in zip((-0.22, 0.0, 0.22), ROLES.items(), strict=True):
        y = stored().back[layout][state.block]
        tips = [f"{layout}, value {i}\n{x[i]:.5f} came back as {y[i]:.5f}" for i in range(BLOCK)]
        marks.append(Stems(here + offset, y - x, role, layout, size=3, tips=tips))
    chosen = Points([state.value], [0.0], "float", size=4, tips=[f"weight {x[state.value]:.5f}"])
    return Plot(
        [*marks, chosen],
        Axis("value in the block", -0.8, 31.8, ticks=range(0, 32, 4)),
        Axis("error x' − x", -0.02, 0.02, ticks=(-0.02, -0.01, 0, 0.01, 0.02)),
        height=210,
    )


def _arithmetic(state: State) -> list[str]:
    """Code to value in each layout, with the stored bytes."""
    x = weights().reshape(-1, BLOCK)[state.block][state.value].item()
    lines = [f"value {state.value} is {short(x, 5)} in float32"]
    for layout in ROLES:
        scale, codes = raw_bytes(layout, state.block)
        byte, bit = place(layout, state.value)
        kind = torch.float32 if layout == "ONNX int4" else torch.float16
        step = torch.tensor(scale, dtype=torch.uint8).view(kind).item()
        back = stored().back[layout][state.block][state.value].item()
        if layout == "Q8_0":
            code = codes[byte] - 256 * (codes[byte] > 127)
            inside = f"0x{codes[byte]:02x}, {short(code)}"
        else:
            code = codes[byte] >> bit & 15
            inside = f"{'high' if bit else 'low'} half of 0x{codes[byte]:02x}, ({code} − 8)"
        lines.append(
            f"{layout:<10} byte {byte:>2}: {inside:<28} × {short(step, 5)} = {short(back, 5)}"
        )
    return lines
