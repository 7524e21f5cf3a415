"""Formats: grids and how they are stored, each with its honest price in bits per weight.

`encode` turns a tensor into exactly the bytes that a file would hold: packed codes, scales, zero
points, codebooks. `decode` needs nothing else. So the bits per weight shown anywhere in the lab are
counted, not claimed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from labkit.affine import choose_qparams, dequantize, quantize
from labkit.checks import check_bits, check_finite, check_tensor
from labkit.granularity import split_groups
from labkit.grids import (
    FLOAT_FORMATS,
    float_codes,
    float_values,
    nearest,
    nf4_levels,
)
from labkit.kmeans import kmeans_levels
from labkit.packing import pack, unpack
from labkit.qparams import FLOAT32, QParams, code_range, stored_scale

MX_SCALE_MODES = ("floor", "ceil", "rceil", "even")
# E8M0, the scale byte of an MX block: 2^(byte - 127), with 255 kept for NaN.
E8M0_BIAS = 127


class Format(Protocol):
    """What every format can do: encode a tensor, and decode what it stored."""

    @property
    def bits(self) -> int:
        """Bits of one code."""

    def encode(self, x: Tensor) -> Encoded:
        """Store a tensor."""

    def decode(self, encoded: Encoded) -> Tensor:
        """Read it back as float32."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """A stored tensor: its format, its shape, and the named tensors a file would hold.

    >>> encoded = Uniform(4).encode(torch.linspace(-1, 1, 64))
    >>> encoded.nbytes, encoded.bits_per_weight
    (37, 4.625)
    """

    format: Format
    shape: tuple[int, ...]
    tensors: dict[str, Tensor]

    def decode(self) -> Tensor:
        """Return the stored values as float32, in the shape that was encoded."""
        return self.format.decode(self)

    @property
    def nbytes(self) -> int:
        """Bytes of everything stored: packed codes, scales, zero points, codebook."""
        return sum(t.numel() * t.element_size() for t in self.tensors.values())

    @property
    def bits_per_weight(self) -> float:
        """All stored bits divided by the number of values."""
        return 8 * self.nbytes / torch.Size(self.shape).numel()

    def codes(self) -> Tensor:
        """Return the codes as small unsigned integers, in the shape that was encoded."""
        return unpack(self.tensors["codes"], self.format.bits, self.shape)


@dataclass(frozen=True)
class Uniform:
    """The affine grid: packed codes, a float32 scale and a packed zero point per tensor or group.

    A symmetric grid has its zero point in the middle and need not store it.

    >>> Uniform(4, group_size=32).encode(torch.randn(64, 64)).bits_per_weight
    5.125
    """

    bits: int = 8
    group_size: int | None = None
    symmetric: bool = False

    def __post_init__(self) -> None:
        """Refuse a width that cannot be."""
        check_bits(self.bits)

    def encode(self, x: Tensor) -> Encoded:
        """Store `x`; ValueError when it is empty, not finite, or the groups do not divide it."""
        qparams = choose_qparams(x, self.bits, symmetric=self.symmetric, group_size=self.group_size)
        tensors = {"codes": pack(quantize(x, qparams), self.bits), "scale": qparams.scale}
        if not self.symmetric:
            tensors["zero_point"] = pack(qparams.zero_point, self.bits)
        return Encoded(self, tuple(x.shape), tensors)

    def decode(self, encoded: Encoded) -> Tensor:
        """Return (codes - zero_point) * scale."""
        scale = encoded.tensors["scale"]
        if self.symmetric:
            zero_point = torch.full(scale.shape, 2 ** (self.bits - 1), device=scale.device)
        else:
            zero_point = unpack(encoded.tensors["zero_point"], self.bits, scale.shape)
        qparams = QParams(scale, zero_point, *code_range(self.bits), group_size=self.group_size)
        return dequantize(encoded.codes(), qparams)


@dataclass(frozen=True)
class Codebook:
    """A k-means codebook: packed indices and a float32 table of 2^bits values.

    The table costs 4 bytes an entry, which a small tensor feels. Source: Han et al. 2016, sec. 3.

    >>> Codebook(2).encode(torch.linspace(-1, 1, 64)).nbytes
    32
    """

    bits: int = 4

    def __post_init__(self) -> None:
        """Refuse a width that cannot be."""
        check_bits(self.bits)

    def encode(self, x: Tensor) -> Encoded:
        """Store `x` with the table that fits it; ValueError when it is empty or not finite."""
        values = _values(x)
        levels = kmeans_levels(values, self.bits)
        codes = nearest(values, levels)
        return Encoded(self, tuple(x.shape), {"codes": pack(codes, self.bits), "codebook": levels})

    def decode(self, encoded: Encoded) -> Tensor:
        """Return codebook[codes]."""
        return encoded.tensors["codebook"][encoded.codes().int()]


@dataclass(frozen=True)
class NF4:
    """NormalFloat 4: 16 fixed levels at the quantiles of a Gaussian, a float32 scale per block.

    Each block is divided by its largest magnitude. Source: Dettmers et al. 2023 (QLoRA), section 3.

    >>> NF4(64).encode(torch.randn(64, 64)).bits_per_weight
    4.5
    """

    block_size: int = 64
    bits: ClassVar[int] = 4

    def encode(self, x: Tensor) -> Encoded:
        """Store `x`; ValueError when it is empty, not finite, or the blocks do not divide it."""
        blocks = split_groups(_values(x), self.block_size)
        scale = stored_scale(blocks.abs().amax(-1).double())
        codes = nearest(blocks / scale.unsqueeze(-1), nf4_levels())
        return Encoded(self, tuple(x.shape), {"codes": pack(codes, self.bits), "scale": scale})

    def decode(self, encoded: Encoded) -> Tensor:
        """Return level[codes] * scale."""
        levels = nf4_levels().to(encoded.tensors["codes"].device)
        blocks = split_groups(levels[encoded.codes().int()], self.block_size)
        return (blocks * encoded.tensors["scale"].unsqueeze(-1)).reshape(encoded.shape)


@dataclass(frozen=True)
class MiniFloat:
    """A small floating-point format with one float32 scale per tensor or group.

    `element` is "e4m3" or "e5m2" (FP8), "e3m2" or "e2m3" (FP6), "e2m1" (FP4). The scale maps the
    largest magnitude onto the largest number of the element type; rounding is to the nearest, ties
    to even. Sources: Micikevicius et al. 2022 (FP8); OCP MX specification 1.0, section 5.3.

    >>> MiniFloat("e4m3").encode(torch.tensor([448.0, 17.0])).decode()
    tensor([448.,  16.])
    """

    element: str = "e4m3"
    group_size: int | None = None

    def __post_init__(self) -> None:
        """Refuse an element type that does not exist."""
        _check_element(self.element)

    @property
    def bits(self) -> int:
        """Bits of one code: sign, exponent and mantissa."""
        return FLOAT_FORMATS[self.element].bits

    def encode(self, x: Tensor) -> Encoded:
        """Store `x`; ValueError when it is empty, not finite, or the groups do not divide it."""
        values = _values(x)
        whole = self.group_size is None
        groups = values.reshape(1, -1) if whole else split_groups(values, self.group_size)
        largest = FLOAT_FORMATS[self.element].largest
        scale = stored_scale(groups.abs().amax(-1).double() / largest)
        codes = float_codes(groups / scale.unsqueeze(-1), self.element)
        return Encoded(self, tuple(x.shape), {"codes": pack(codes, self.bits), "scale": scale})

    def decode(self, encoded: Encoded) -> Tensor:
        """Return the element values times their scale."""
        scale = encoded.tensors["scale"]
        values = float_values(encoded.codes(), self.element).reshape(*scale.shape, -1)
        return _finite(values * scale.unsqueeze(-1)).reshape(encoded.shape)


@dataclass(frozen=True)
class MX:
    """Microscaling: blocks of 32 small floats that share one power-of-two scale, stored in a byte.

    `scale_mode` says how the exponent is chosen from the block's largest magnitude:
    "floor" as the OCP specification has it (values above the largest number clip),
    "ceil" the next power of two (nothing clips, up to a bit of precision is lost),
    "rceil" the smallest power of two for which nothing clips,
    "even" floor after rounding the magnitude to the element's mantissa.
    Source: OCP Microscaling Formats specification 1.0, sections 5 and 6.3.

    >>> MX("e2m1").encode(torch.randn(4, 64)).bits_per_weight
    4.25
    """

    element: str = "e2m1"
    scale_mode: str = "floor"
    block_size: int = 32

    def __post_init__(self) -> None:
        """Refuse an element type or a scale mode that does not exist."""
        _check_element(self.element)
        if self.scale_mode not in MX_SCALE_MODES:
            raise ValueError(
                f"scale_mode must be one of {', '.join(MX_SCALE_MODES)}; got {self.scale_mode!r}"
            )

    @property
    def bits(self) -> int:
        """Bits of one code: sign, exponent and mantissa."""
        return FLOAT_FORMATS[self.element].bits

    def encode(self, x: Tensor) -> Encoded:
        """Store `x`; ValueError when it is empty, not finite, or the blocks do not divide it."""
        blocks = split_groups(_values(x), self.block_size)
        exponent = self.shared_exponent(blocks.abs().amax(-1))
        # Float64 holds every power of two that may be needed; float32 does not.
        inverse = torch.ldexp(torch.ones_like(exponent, dtype=torch.float64), -exponent)
        codes = float_codes((blocks * inverse.unsqueeze(-1)).to(torch.float32), self.element)
        scale = (exponent + E8M0_BIAS).to(torch.uint8)
        return Encoded(self, tuple(x.shape), {"codes": pack(codes, self.bits), "scale": scale})

    def decode(self, encoded: Encoded) -> Tensor:
        """Return the element values times 2^exponent of their block."""
        values = split_groups(float_values(encoded.codes(), self.element), self.block_size)
        exponent = encoded.tensors["scale"].to(torch.int32) - E8M0_BIAS
        return _finite(torch.ldexp(values, exponent.unsqueeze(-1))).reshape(encoded.shape)

    def shared_exponent(self, amax: Tensor) -> Tensor:
        """Return the power of two (int32) for blocks whose largest magnitudes are `amax`.

        >>> MX("e2m1", "floor").shared_exponent(torch.tensor([7.0])).item()
        0
        >>> MX("e2m1", "ceil").shared_exponent(torch.tensor([7.0])).item()
        1
        """
        element = FLOAT_FORMATS[self.element]
        amax = amax.double()
        if self.scale_mode == "rceil":
            exponent = _ceil_log2(amax / element.largest)
        elif self.scale_mode == "ceil":
            exponent = _ceil_log2(amax) - element.largest_exponent
        else:
            if self.scale_mode == "even":
                step = torch.ldexp(torch.ones_like(amax), _floor_log2(amax) - element.mantissa)
                amax = torch.where(amax > 0, amax + step / 2, amax)
            exponent = _floor_log2(amax) - element.largest_exponent
        # A block of zeros has no logarithm; the smallest exponent serves it.
        exponent = torch.where(amax > 0, exponent, -E8M0_BIAS)
        return exponent.clamp(-E8M0_BIAS, E8M0_BIAS).to(torch.int32)


def _values(x: Tensor) -> Tensor:
    check_tensor(x)
    if x.numel() == 0:
        raise ValueError(f"an empty tensor has nothing to store; got shape {tuple(x.shape)}")
    check_finite(x)
    values = x.detach().to(torch.float32)
    check_finite(values)
    return values


def _finite(values: Tensor) -> Tensor:
    """Saturate what a rounded-up scale carried just beyond the largest float32."""
    return values.clamp(-FLOAT32.max, FLOAT32.max)


def _check_element(element: str) -> None:
    if element not in list(FLOAT_FORMATS):
        raise ValueError(f"element must be one of {', '.join(FLOAT_FORMATS)}; got {element!r}")


def _floor_log2(x: Tensor) -> Tensor:
    # frexp gives x = m · 2^e with m in [1/2, 1): exact, unlike a rounded logarithm.
    return torch.frexp(x).exponent - 1


def _ceil_log2(x: Tensor) -> Tensor:
    mantissa, exponent = torch.frexp(x)
    return torch.where(mantissa == 0.5, exponent - 1, exponent)
