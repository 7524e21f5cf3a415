"""Packing under the eyes: eight weights of a trained layer, their codes, their bits, their bytes.

Eight codes of b bits fill exactly b bytes, so the picture always ends at a byte boundary. The bytes
are cut out of the whole layer's packed bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from torch import Tensor

from labkit.affine import choose_qparams, dequantize, quantize
from labkit.explorers.drawing.text import short
from labkit.explorers.panel import Panel, bits_slider, int_slider, switch
from labkit.explorers.scene import Axis, Bars, Cells, Line, Plot, Readout, Scene, Text
from labkit.packing import pack
from labkit.qparams import QParams
from labkit.zoo import mnist_mlp

CODES = 8
WIDTHS = range(2, 9)
# Bits that eight codes take when each has a byte to itself.
ROOM = 64


@dataclass(frozen=True)
class State:
    """Bits of a code, whether codes are signed, and the first of the eight weights (÷ 8).

    >>> State().bits
    4
    """

    bits: int = 4
    signed: bool = False
    start: int = 168_792


@dataclass(frozen=True, eq=False)
class Stored:
    """The layer as a file would hold it: parameters, codes (flat), and packed bytes.

    >>> stored(4, False).nbytes
    100357
    """

    qparams: QParams
    codes: Tensor
    packed: Tensor
    zero_point: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of codes, float32 scale and packed zero point."""
        parts = (self.packed, self.qparams.scale, self.zero_point)
        return sum(part.numel() * part.element_size() for part in parts)


@cache
def layer() -> Tensor:
    """Return the 256 × 784 weights of the trained network's first layer as one row.

    >>> layer().shape
    torch.Size([200704])
    """
    return mnist_mlp().fc1.weight.detach().reshape(-1)


@cache
def stored(bits: int, signed: bool) -> Stored:
    """Quantize the layer with one scale and one zero point, and pack it.

    >>> len(stored(3, False).packed)
    75264
    """
    qparams = choose_qparams(layer(), bits, signed=signed)
    codes = quantize(layer(), qparams)
    return Stored(qparams, codes, pack(codes, bits), pack(qparams.zero_point, bits))


def controls() -> dict:
    """Return the panel's controls.

    >>> list(controls())
    ['bits', 'signed', 'start']
    """
    last = layer().numel() - CODES
    return {
        "bits": bits_slider(),
        "signed": switch("signed codes", tooltip="Two's complement instead of 0, 1, 2, …"),
        "start": int_slider("first weight", 0, last, step=CODES, tooltip="Walk through the layer"),
    }


def scene(state: State) -> Scene:
    """Draw eight weights on their way into bytes, and the size of the whole layer.

    >>> scene(State(bits=3)).readout("whole layer").value
    '75,269'
    """
    whole = stored(state.bits, state.signed)
    count, codes_bytes = layer().numel(), whole.packed.numel()
    extra = whole.nbytes - codes_bytes
    kind = "signed" if state.signed else "unsigned"
    return Scene(
        f"Eight {kind} {state.bits}-bit codes in {state.bits} bytes",
        [_journey(state, whole), _sizes(state)],
        readouts=[
            Readout("bits per weight", f"{8 * whole.nbytes / count:.4f}", "", "measured"),
            Readout("codes", f"{codes_bytes:,}", "bytes", "measured", "quantized"),
            Readout("scale + zero point", f"4 + {extra - 4}", "bytes", "measured"),
            Readout("whole layer", f"{whole.nbytes:,}", "bytes", "measured"),
            Readout("shrunk by", f"{4 * count / whole.nbytes:.4f}", "times"),
        ],
        formulas=[
            f"code i takes bits {state.bits}·i … {state.bits}·i + {state.bits - 1} of the row; "
            "bit k of the row is bit k mod 8 of byte ⌊k / 8⌋",
            f"bytes = ⌈{count:,} × {state.bits} / 8⌉ + 4 + {extra - 4} = {whole.nbytes:,}",
        ],
        description="Float weights, their codes, the row of bits with each code in its own colour, "
        "byte boundaries, and the size of the layer at every bit width.",
    )


def explorer(**fields) -> Panel:
    """Return the live panel; fields of `State` set where it starts.

    >>> explorer(bits=3).state.bits
    3
    """
    return Panel(State(**fields), controls(), scene)


def _journey(state: State, whole: Stored) -> Plot:
    bits, here = state.bits, slice(state.start, state.start + CODES)
    values = layer()[here].tolist()
    codes = whole.codes[here].tolist()
    back = dequantize(whole.codes[here], whole.qparams).tolist()
    first_byte = state.start * bits // 8
    data = whole.packed[first_byte : first_byte + bits].tolist()
    patterns = [code & (2**bits - 1) for code in codes]
    roles = [f"code{i}" for i in range(CODES)]
    tips = [
        f"weight {state.start + i}: {values[i]:.5f}\n"
        f"code {codes[i]}, written {patterns[i]:0{bits}b}\n"
        f"stands for ({codes[i]} − {whole.qparams.zero_point}) × {whole.qparams.scale:.5f}"
        f" = {back[i]:.5f}\n"
        f"bits {i * bits} … {i * bits + bits - 1} of this row: {_bytes_of(i, bits)}"
        for i in range(CODES)
    ]
    columns = [8 * i for i in range(CODES)]
    shown = [short(round(v, 4)) for v in values]
    owners = [i for i in range(CODES) for _ in range(bits)]
    digits = [str(patterns[i] >> k & 1) for i in range(CODES) for k in range(bits)]
    bit_tips = [
        f"bit {k} of code {i} ({codes[i]})\nbit {(i * bits + k) % 8} of byte {(i * bits + k) // 8}"
        for i in range(CODES)
        for k in range(bits)
    ]
    marks = [
        Cells(
            columns,
            [6.1] * 8,
            shown,
            "float",
            7.6,
            0.9,
            13,
            tips=tips,
        ),
        Cells(columns, [4.9] * 8, list(map(short, codes)), roles, 7.6, 0.9, 16, True, tips),
        *[
            Text(8 * i + 3.8, 4.42, f"{patterns[i]:0{bits}b}", "muted", size=12)
            for i in range(CODES)
        ],
        *[
            Line([8 * i + 3.8, (i + 0.5) * bits], [4.05, 2.95], roles[i], width=1.5)
            for i in range(CODES)
        ],
        Cells(
            range(8 * bits),
            [2.0] * (8 * bits),
            digits,
            [roles[i] for i in owners],
            1.0,
            0.9,
            12,
            True,
            bit_tips,
        ),
        Cells(
            [8 * j for j in range(bits)],
            [0.75] * bits,
            [f"0x{byte:02x}" for byte in data],
            "range",
            8.0,
            1.0,
            15,
            tips=[
                f"byte {j}: {byte} = 0x{byte:02x}\nwritten high bit first: {byte:08b}\n"
                f"holds bits of codes {8 * j // bits} to {(8 * j + 7) // bits}"
                for j, byte in enumerate(data)
            ],
        ),
        *[Text(8 * j + 4, 0.3, f"byte {j}", "muted", size=12) for j in range(bits)],
    ]
    if bits < 8:
        middle = (8 * bits + ROOM) / 2
        marks.append(Text(middle, 2.3, f"{ROOM - 8 * bits} bits\nsaved", "muted", size=13))
    for y, name in ((6.4, "float32"), (5.2, "code"), (2.3, "bits, low\nbit first"), (1.1, "bytes")):
        marks.append(Text(-8.6, y, name, "ink", "start", 13))
    return Plot(
        marks,
        Axis("bit", -8.6, ROOM, show=False),
        Axis("row", 0, 7.1, show=False),
        height=330,
        grid="none",
    )


def _sizes(state: State) -> Plot:
    """Bars: kilobytes of the whole layer at every width, and as float32."""
    kilobytes = [stored(bits, state.signed).nbytes / 1000 for bits in WIDTHS]
    floats = 4 * layer().numel() / 1000
    others = [bits for bits in WIDTHS if bits != state.bits]
    of = dict(zip(WIDTHS, kilobytes, strict=True))
    marks = [
        Bars(others, [of[b] for b in others], 0.7, "range"),
        Bars([state.bits], [of[state.bits]], 0.7, "quantized", "this width"),
        Bars([10], [floats], 0.7, "float", "float32"),
        *[Text(bits, of[bits], f"{of[bits]:.1f}", dy=-6) for bits in WIDTHS],
        Text(10, floats, f"{floats:.1f}", dy=-6),
    ]
    ticks = [*WIDTHS, 10]
    return Plot(
        marks,
        Axis("bits of a code", 1.4, 10.6, ticks=ticks, labels=(*map(str, WIDTHS), "float32")),
        Axis("size on disk", 0, 950, unit="kB"),
        title="The whole layer, 256 × 784 weights",
        height=220,
    )


def _bytes_of(index: int, bits: int) -> str:
    first, last = index * bits // 8, ((index + 1) * bits - 1) // 8
    return f"in byte {first}" if first == last else f"across bytes {first} and {last}"
