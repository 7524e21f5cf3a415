"""The formats on offer: families, what each comes in, the rivals it meets, and its grid.

A grid is read off a format by decoding every code that it has.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from labkit.explorers.storage import WHOLE, encoded
from labkit.formats import MX, MX_SCALE_MODES, NF4, Codebook, Encoded, Format, MiniFloat, Uniform
from labkit.grids import FLOAT_FORMATS, float_levels
from labkit.packing import pack, unpack

FLOATS = {"FP8 E4M3": "e4m3", "FP8 E5M2": "e5m2", "FP4 E2M1": "e2m1"}
MXS = {"MX FP8": "e4m3", "MX FP6": "e2m3", "MX FP4": "e2m1"}
FAMILIES = ("uniform", "k-means", "NF4", *FLOATS, *MXS)
BLOCKS = (16, 32, 64, 128, 256, WHOLE)
BLOCK_NAMES = {16: "16", 32: "32", 64: "64", 128: "128", 256: "256", WHOLE: "all"}


@dataclass(frozen=True)
class State:
    """A format family with its width, block size and MX scale mode, and the data it stores.

    >>> State().family
    'uniform'
    """

    family: str = "uniform"
    bits: int = 4
    block: int = WHOLE
    scale_mode: str = "floor"
    data: str = "layer"


def offered(family: str) -> dict[str, tuple]:
    """Return the widths, block sizes and scale modes that a family comes in.

    >>> offered("MX FP4")["block"]
    (32,)
    """
    bits, blocks, modes = (4,), (WHOLE,), ("floor",)
    if family == "uniform":
        bits, blocks = tuple(range(2, 9)), BLOCKS
    elif family == "k-means":
        bits = tuple(range(2, 9))
    elif family == "NF4":
        blocks = BLOCKS[:-1]
    elif family in FLOATS:
        bits, blocks = (FLOAT_FORMATS[FLOATS[family]].bits,), BLOCKS
    else:
        bits, blocks, modes = (FLOAT_FORMATS[MXS[family]].bits,), (32,), MX_SCALE_MODES
    return {"bits": bits, "block": blocks, "scale_mode": modes}


def settled(state: State) -> State:
    """Return the nearest state that the family offers.

    >>> settled(State("NF4", bits=7)).bits
    4
    """
    options = offered(state.family)
    return replace(
        state,
        bits=min(options["bits"], key=lambda b: abs(b - state.bits)),
        block=state.block if state.block in options["block"] else _usual_block(state.family),
        scale_mode=state.scale_mode if state.scale_mode in options["scale_mode"] else "floor",
    )


def make(state: State) -> Format:
    """Return the format object of a settled state.

    >>> make(State("MX FP4", 4, 32, "even"))
    MX(element='e2m1', scale_mode='even', block_size=32)
    """
    size = state.block or None
    if state.family == "uniform":
        return Uniform(state.bits, size)
    if state.family == "k-means":
        return Codebook(state.bits)
    if state.family == "NF4":
        return NF4(state.block)
    if state.family in FLOATS:
        return MiniFloat(FLOATS[state.family], size)
    return MX(MXS[state.family], state.scale_mode, state.block)


@cache
def rivals() -> tuple[tuple[str, str, Format], ...]:
    """Return every format of the scatter plot as (its line in the plot, name, format).

    >>> len(rivals())
    31
    """
    widths = range(2, 9)
    return (
        *(("uniform", f"uniform {b} bits", Uniform(b)) for b in widths),
        *(("uniform by 32", f"uniform {b} bits, by 32", Uniform(b, 32)) for b in widths),
        *(("k-means", f"k-means {b} bits", Codebook(b)) for b in widths),
        ("NF4, floats", "NF4, by 64", NF4(64)),
        *(("NF4, floats", name, MiniFloat(kind)) for name, kind in FLOATS.items()),
        *(("MX", f"{name}, by 32", MX(kind)) for name, kind in list(MXS.items())[:2]),
        *(("MX", f"MX FP4 {mode}, by 32", MX("e2m1", mode)) for mode in MX_SCALE_MODES),
    )


@cache
def grid(format: Format, data: str, index: int) -> Tensor:
    """Return the levels of one block, sorted: every code that exists, decoded.

    >>> len(grid(Uniform(3), "layer", 0)), len(grid(MiniFloat("e4m3"), "layer", 0))
    (8, 253)
    """
    stored = encoded(format, data)
    codes = torch.arange(2**format.bits)
    if hasattr(format, "element"):
        # Patterns beyond the largest number (NaN, infinity) are never written.
        half = 2 ** (format.bits - 1)
        codes = codes[codes % half < len(float_levels(format.element))]
    parts = {"codes": pack(codes, format.bits)}
    if "codebook" in stored.tensors:
        parts["codebook"] = stored.tensors["codebook"]
    else:
        scale = stored.tensors["scale"]
        at = slice(index, index + 1) if scale.ndim else ...
        parts["scale"] = scale[at]
        if "zero_point" in stored.tensors:
            zero = unpack(stored.tensors["zero_point"], format.bits, scale.shape)[at]
            parts["zero_point"] = pack(zero, format.bits)
    alone = format
    for field in ("group_size", "block_size"):
        if getattr(format, field, None):
            alone = replace(format, **{field: len(codes)})
    return Encoded(alone, (len(codes),), parts).decode().unique()


def _usual_block(family: str) -> int:
    return 64 if family == "NF4" else offered(family)["block"][-1]
