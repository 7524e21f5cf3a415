"""The first panel of notebook 03: every bit and byte shown, against integer arithmetic."""

import pytest

from labkit.explorers.bytes_view import CODES, State, controls, layer, scene, stored
from labkit.explorers.panel import sweep
from labkit.explorers.scene import Bars, Cells

SWEPT = list(sweep(scene, State(), controls()))


def rows(picture):
    """Boxes of floats, codes, bits and bytes."""
    return list(picture.marks(Cells))


@pytest.mark.parametrize(("state", "picture"), SWEPT, ids=lambda v: str(v)[:60])
def test_bits_and_bytes_are_those_of_the_codes(state, picture):
    floats, codes, bits, data = rows(picture)
    numbers = [int(label.replace("−", "-")) for label in codes.labels]
    # One large integer, built code by code: the oracle for order and byte boundaries.
    stream = sum((code % 2**state.bits) << (i * state.bits) for i, code in enumerate(numbers))
    assert "".join(bits.labels) == f"{stream:0{CODES * state.bits}b}"[::-1]
    assert [int(label, 16) for label in data.labels] == list(stream.to_bytes(state.bits, "little"))
    # A bit has the colour of its code, and every code a colour of its own.
    assert list(bits.roles) == [role for role in codes.roles for _ in range(state.bits)]
    assert len(set(codes.roles)) == CODES
    low = -(2 ** (state.bits - 1)) if state.signed else 0
    assert all(low <= n < low + 2**state.bits for n in numbers)
    # Decoded in plain arithmetic, each code is within half a step of its weight.
    q = stored(state.bits, state.signed).qparams
    scale, zero = q.scale.item(), q.zero_point.item()
    for i, code in enumerate(numbers):
        x = layer()[state.start + i].item()
        assert abs((code - zero) * scale - x) <= scale * 0.5001
        assert float(floats.labels[i].replace("−", "-")) == pytest.approx(x, abs=6e-5)


@pytest.mark.parametrize(("state", "picture"), SWEPT, ids=lambda v: str(v)[:60])
def test_the_size_is_counted(state, picture):
    codes = -(-200_704 * state.bits // 8)
    assert picture.readout("codes").value == f"{codes:,}"
    assert picture.readout("whole layer").value == f"{codes + 5:,}"
    assert picture.readout("scale + zero point").value == "4 + 1"
    shown = float(picture.readout("bits per weight").value)
    assert shown == pytest.approx(8 * (codes + 5) / 200_704, abs=5e-5)
    bars = {x: h for bar in picture.marks(Bars) for x, h in zip(bar.x, bar.heights, strict=True)}
    assert bars.pop(10) == pytest.approx(802.816)
    assert bars == {b: pytest.approx((200_704 * b / 8 + 5) / 1000) for b in range(2, 9)}


def test_signed_codes_are_the_same_grid_with_the_top_bit_flipped():
    for bits in range(2, 9):
        plain, signed = stored(bits, False), stored(bits, True)
        assert plain.qparams.scale == signed.qparams.scale
        patterns = signed.codes.long() & (2**bits - 1)
        assert bool((patterns ^ plain.codes.long() == 2 ** (bits - 1)).all())


def test_odd_widths_say_which_codes_cross_a_byte_boundary():
    for bits in range(2, 9):
        codes = rows(scene(State(bits=bits)))[1]
        crossing = [i for i, tip in enumerate(codes.tips) if "across" in tip]
        assert crossing == [i for i in range(8) if i * bits // 8 != ((i + 1) * bits - 1) // 8]
        assert bool(crossing) == (bits in (3, 5, 6, 7))
