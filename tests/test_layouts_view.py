"""Byte layouts side by side: every box against the bytes that the gguf package reads."""

import struct

import gguf
import numpy as np
import pytest

from labkit.explorers.layouts_view import (
    ROLES,
    State,
    controls,
    exact_q4_0,
    half_scale_errors,
    place,
    raw_bytes,
    scene,
    stored,
)
from labkit.explorers.panel import sweep
from labkit.explorers.scene import Cells, Stems
from labkit.explorers.storage import weights

SWEPT = list(sweep(scene, State(), controls()))
BLOCKS = weights().reshape(-1, 32)
KINDS = {
    "Q4_0": gguf.GGMLQuantizationType.Q4_0,
    "Q8_0": gguf.GGMLQuantizationType.Q8_0,
}


def test_every_position_shows_the_followed_value_once_in_each_layout():
    for state, picture in SWEPT:
        strong = [m for m in picture.marks(Cells) if m.strong and m.roles[0] != "muted"]
        assert [m.labels for m in strong] == [(str(state.value),)] * 3
        assert [m.roles[0] for m in strong] == list(ROLES.values())


@pytest.mark.parametrize("layout", ROLES)
@pytest.mark.parametrize("block", [0, 3150, 6271])
def test_the_place_named_holds_the_value(layout, block):
    scale, codes = raw_bytes(layout, block)
    step = struct.unpack("<f" if len(scale) == 4 else "<e", bytes(scale))[0]
    for value in range(32):
        byte, bit = place(layout, value)
        if layout == "Q8_0":
            code = struct.unpack("b", bytes([codes[byte]]))[0]
        else:
            code = (codes[byte] // 2**bit) % 16 - 8
        x = BLOCKS[block][value].item()
        # The largest value may clip in Q4_0: it is up to one step away.
        room = step if layout == "Q4_0" else step / 2
        assert abs(code * step - x) <= abs(room) * 1.01
        assert stored().back[layout][block][value].item() == pytest.approx(code * step, rel=1e-6)


@pytest.mark.parametrize("layout", KINDS)
def test_the_bytes_are_those_of_gguf(layout):
    theirs = gguf.quants.quantize(BLOCKS.numpy(), KINDS[layout])
    for block in (0, 3150, 6271):
        scale, codes = raw_bytes(layout, block)
        assert scale + codes == theirs[block].tolist()
    back = gguf.quants.dequantize(theirs, KINDS[layout])
    np.testing.assert_array_equal(back, stored().back[layout].numpy())


def test_errors_shown_are_the_errors_and_stay_on_the_axis():
    for state, picture in SWEPT:
        x = BLOCKS[state.block]
        for layout, stems in zip(ROLES, picture.marks(Stems), strict=True):
            back = stored().back[layout][state.block]
            np.testing.assert_allclose(stems.y, (back - x).tolist(), rtol=0, atol=1e-9)
    for back in stored().back.values():
        assert (back - BLOCKS).abs().max() < 0.02


def test_bits_per_weight_and_the_price_of_half_precision():
    picture = scene(State())
    assert picture.readout("Q4_0").value == (2 + 16) * 8 / 32
    assert picture.readout("int4 + float32 scale").value == (4 + 16) * 8 / 32
    assert picture.readout("Q8_0").value == (2 + 32) * 8 / 32
    peaks = BLOCKS.numpy()[np.arange(6272), BLOCKS.abs().argmax(-1).numpy()] / np.float32(-8)
    half = peaks.astype(np.float16).astype(np.float64)
    np.testing.assert_allclose(
        half_scale_errors().numpy(), np.abs(half / peaks - 1), rtol=1e-6, atol=1e-9
    )
    # What makes Q4_0 err less than the symmetric grid is its rule, not its half-precision scale.
    peaks = peaks[:, None].astype(np.float64)
    codes = np.clip(np.floor(BLOCKS.numpy() / peaks + 8.5), 0, 15) - 8
    np.testing.assert_allclose(exact_q4_0().numpy(), codes * peaks, rtol=1e-6)
    exact, half, onnx = (
        (back - BLOCKS).square().mean().item()
        for back in (exact_q4_0(), stored().back["Q4_0"], stored().back["ONNX int4"])
    )
    assert half == pytest.approx(exact, rel=1e-4) and exact < 0.8 * onnx
    # Half precision keeps 11 significant bits, so rounding moves a scale by at most 2^-11.
    assert 4e-4 < half_scale_errors().max() <= 2**-11
