"""The panels of notebook 07: every number shown, recomputed in whole numbers and fractions."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch

from labkit.explorers import (
    accumulator_width,
    integer_net,
    multiplier_bits,
    neuron,
    requantizing,
    zero_points,
)
from labkit.explorers.panel import sweep
from labkit.explorers.scene import Bars, Cells, Line, Points
from labkit.integer_model import integer_forward


def number(readout) -> int:
    return int(str(readout.value).replace("−", "-").replace(",", ""))


def half_away(x: Fraction) -> int:
    sign = 1 if x >= 0 else -1
    return sign * math.floor(abs(x) + Fraction(1, 2))


# --- the network --------------------------------------------------------------------------------


def test_all_variants_compute_the_same_function():
    scores = [
        integer_net.network(pixels, weights)(
            integer_net.prepared(integer_net.mnist().test_images[:200], pixels)
        )
        for pixels in integer_net.PIXELS
        for weights in integer_net.WEIGHTS
    ]
    for other in scores[1:]:
        assert (other - scores[0]).abs().max() < 0.05 * scores[0].abs().max()


def test_the_zero_points_are_where_the_choices_put_them():
    for pixels in integer_net.PIXELS:
        for weights in integer_net.WEIGHTS:
            first = integer_net.stages(pixels, weights)[0]
            assert bool(first.x_qparams.zero_point) == (pixels == "standard")
            assert bool(first.w_qparams.zero_point.any()) == (weights == "affine")


def test_one_image_stands_for_each_digit():
    labels = integer_net.mnist().test_labels[list(integer_net.digit_images())]
    assert labels.tolist() == list(range(10))


@pytest.mark.parametrize("call", [
    lambda: integer_net.prepared(torch.zeros(1), "raw"),
    lambda: integer_net.network("plain", "odd"),
])  # fmt: skip
def test_unknown_choices_are_refused(call):
    with pytest.raises(ValueError, match="must be one of"):
        call()


# --- one neuron adds ----------------------------------------------------------------------------


def test_the_sum_the_bits_and_the_arithmetic_belong_together():
    for state, picture in sweep(
        neuron.scene, neuron.State(), {**neuron.controls(), "neuron": neuron.int_slider("n", 0, 9)}
    ):
        x = integer_net.image_codes()[integer_net.digit_images()[state.digit]].numpy().astype(int)
        w = integer_net.stages()[0].layer.codes[state.neuron].numpy().astype(int)
        expected = int(np.dot(x[: state.products], w[: state.products]))
        assert number(picture.readout("accumulator")) == expected
        assert number(picture.readout("after all 784")) == int(np.dot(x, w))
        needed = picture.readout("bits it needs").value
        assert -(2 ** (needed - 1)) <= expected <= 2 ** (needed - 1) - 1
        bits = {}
        for cells in picture.marks(Cells):
            bits |= dict(zip(cells.x, cells.labels, strict=True))
        digits = "".join(bits[i] for i in range(32))
        assert int(digits, 2) - 2**32 * int(digits[0]) == expected
        strong = [cells for cells in picture.marks(Cells) if cells.strong]
        assert sum(len(cells.x) for cells in strong) == needed
        line = max(picture.marks(Line), key=lambda mark: len(mark.x))
        assert min(line.y) > neuron.LOW and max(line.y) < neuron.HIGH
        if state.products:
            k = state.products - 1
            assert f"{x[k]} × " in picture.formulas[0]


def test_the_widest_sum_on_the_way_is_found():
    for digit in range(10):
        path = neuron.sums(digit, 30).numpy()
        shown = neuron.scene(neuron.State(digit, 30, 784)).readout("most on the way").value
        assert shown == max(math.ceil(math.log2(path.max() + 1)), math.ceil(math.log2(-path.min()))
                            if path.min() < 0 else 0) + 1  # fmt: skip


# --- the four sums ------------------------------------------------------------------------------


def test_four_sums_make_the_sum_of_products_of_differences():
    controls = zero_points.controls() | {"neuron": neuron.int_slider("n", 100, 104)}
    for state, picture in sweep(zero_points.scene, zero_points.State(), controls):
        first = integer_net.stages(state.pixels, state.weights)[0]
        x = integer_net.image_codes(state.pixels)[integer_net.digit_images()[state.digit]].long()
        w = first.layer.codes[state.neuron].long()
        z_x = picture.readout("z_x").value
        z_w = picture.readout("z_w").value
        right = int(((x - z_x) * (w - z_w)).sum())
        left_out = {
            "": 0,
            "x_term": -z_w * int(x.sum()),
            "w_term": -z_x * int(w.sum()),
            "constant": 784 * z_x * z_w,
        }[state.forget]
        assert number(picture.readout("total")) == right - left_out
        bars = {bar.x[0]: bar.heights[0] for bar in picture.marks(Bars)}
        assert sum(bars[i] for i in range(4)) == pytest.approx(right / 1e6)
        end = zero_points.reach(state.pixels, state.weights)
        assert all(abs(height) < end for height in bars.values())


@pytest.mark.parametrize("pixels", integer_net.PIXELS)
@pytest.mark.parametrize("weights", integer_net.WEIGHTS)
def test_with_all_sums_the_accuracy_is_that_of_the_whole_integer_network(pixels, weights):
    images = integer_net.prepared(integer_net.mnist().test_images, pixels)
    scores = integer_forward(integer_net.network(pixels, weights), images)
    assert zero_points.quality(pixels, weights, "") == integer_net.graded(scores)


def test_only_sums_that_are_not_zero_are_missed():
    whole = zero_points.quality("plain", "symmetric", "")
    for name in ("x_term", "w_term", "constant"):
        assert zero_points.quality("plain", "symmetric", name) == whole
    assert zero_points.quality("plain", "affine", "w_term") == zero_points.quality(
        "plain", "affine", ""
    )
    assert zero_points.quality("standard", "affine", "x_term").value < 0.2
    # The treacherous one: the network still reads most digits.
    assert 0.7 < zero_points.quality("standard", "symmetric", "w_term").value < 0.9


# --- from 32 bits to 8 --------------------------------------------------------------------------


def test_every_row_of_bits_is_its_number_and_the_code_follows_from_fractions():
    controls = requantizing.controls() | {
        "accumulator": neuron.int_slider("a", -100_000, 500_000, step=60_000),
        "neuron": neuron.int_slider("n", 0, 255, step=51),
    }
    for state, picture in sweep(requantizing.scene, requantizing.State(), controls):
        rows = ["".join(cells.labels) for cells in picture.marks(Cells)]
        accumulator, multiplier, product, code = (int(row, 2) for row in rows)
        accumulator -= 2**32 * (accumulator >= 2**31)
        product -= 2**64 * (product >= 2**63)
        assert accumulator == state.accumulator
        assert product == accumulator * multiplier
        m = requantizing.multipliers()[state.neuron]
        shift = math.frexp(m)[1]
        assert abs(Fraction(multiplier, 2**31) * Fraction(2) ** shift / Fraction(m) - 1) <= 2**-31
        high = math.floor(Fraction(product, 2**31) + Fraction(1, 2))
        steps = half_away(Fraction(high) * Fraction(2) ** shift)
        assert code == min(max(steps + state.zero_point, 0), 255)
        assert picture.readout("code").value == code
        onnx = round(float(np.float32(accumulator) * np.float32(m)))
        # The multiplier of ONNX is computed in float32, and may be one step of it away.
        assert abs(picture.readout("the code in ONNX").value
                   - min(max(onnx + state.zero_point, 0), 255)) <= 1  # fmt: skip
        exact, once, twice = (points.x[0] for points in picture.marks(Points))
        assert exact == pytest.approx(float(Fraction(product, 2**31) * Fraction(2) ** shift))
        assert once == pytest.approx(float(Fraction(high) * Fraction(2) ** shift))
        assert twice == steps


def test_the_default_accumulator_is_what_the_neuron_really_sums_up():
    state, shown = requantizing.State(), neuron.State()
    assert state.neuron == shown.neuron
    total = int(neuron.sums(shown.digit, shown.neuron)[-1])
    assert state.accumulator == total + int(integer_net.stages()[0].bias[shown.neuron])


def test_the_place_that_the_notebook_names_is_one_where_two_roundings_differ_from_one():
    assert requantizing.disagreeing(130, 406_700, 406_800) == [406_771]


# --- the multiplier's bits ----------------------------------------------------------------------


def test_a_shortened_multiplier_is_the_nearest_of_so_many_bits():
    m = [0.75, 0.999999, 0.0123, 0.5, 0.3333]
    whole, shift = multiplier_bits.quantize_multipliers(torch.tensor(m, dtype=torch.float64))
    for bits in range(1, 32):
        multiplier, shifts = multiplier_bits.shortened(whole, shift, bits)
        for value, a, b in zip(m, multiplier.tolist(), shifts.tolist(), strict=True):
            assert 2**30 <= a < 2**31 and a % 2 ** (31 - bits) == 0
            assert (
                abs(Fraction(a, 2**31) * Fraction(2) ** b / Fraction(value) - 1)
                <= 2**-bits + 2**-31
            )


def test_fewer_bits_change_more_codes_and_hardly_an_answer():
    differ = [multiplier_bits.effect(bits).differ for bits in range(1, 32)]
    assert differ[-1] == 0 and differ[0] > 100_000
    assert all(b <= 1.1 * a + 5 for a, b in pairwise(differ))
    assert multiplier_bits.effect(31).quality == zero_points.quality("plain", "symmetric", "")
    assert multiplier_bits.effect(8).quality.value > 0.92


def test_the_bits_shown_are_those_of_the_multiplier_that_is_stored():
    for state, picture in sweep(
        multiplier_bits.scene,
        multiplier_bits.State(),
        multiplier_bits.controls() | {"neuron": neuron.int_slider("n", 0, 255, step=85)},
    ):
        (cells,) = picture.marks(Cells)
        mantissa = int("".join(cells.labels), 2) / 2**31
        assert 0.5 <= mantissa < 1
        m = requantizing.multipliers()[state.neuron]
        # m may have been rounded up to the next power of two.
        ratio = min(abs(mantissa * 2.0**n / m - 1) for n in range(-20, 1))
        shown = float(picture.readout("error of m").value) / 100
        assert shown == pytest.approx(ratio, rel=0.06, abs=1e-11)
        assert ratio <= 2.0**-state.bits + 2.0**-31
        assert set(cells.labels[state.bits :]) <= {"0"}


# --- the accumulator's width --------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 12, 16, 32])
def test_wrapping_is_what_a_register_does(bits):
    sums = torch.arange(-70_000, 70_000, 37)
    kept = accumulator_width.wrap(sums, bits).numpy()
    if bits in (8, 16, 32):
        with np.errstate(all="ignore"):
            assert kept.tolist() == sums.numpy().astype(f"int{bits}").tolist()
    assert (kept >= -(2 ** (bits - 1))).all() and (kept < 2 ** (bits - 1)).all()
    assert ((kept - sums.numpy()) % 2**bits == 0).all()


def test_products_that_always_fit_are_counted_from_the_worst_product():
    for bits in range(8, 33):
        fit = accumulator_width.always_fit(bits)
        assert fit * 255 * 128 <= 2 ** (bits - 1) < (fit + 1) * 255 * 128


def test_sums_grow_as_torch_adds_them():
    for layer in accumulator_width.LAYERS:
        grown = accumulator_width.growth(layer)
        stage = next(s for s in integer_net.stages() if s.name == layer)
        x = accumulator_width.entering()[layer].long()[::4]
        final = x @ stage.layer.codes.long().T
        assert torch.equal(grown.final.long(), final.abs().flatten())
        k = len(grown.largest) // 2
        part = x[:, :k] @ stage.layer.codes.long()[:, :k].T
        assert int(grown.largest[k - 1]) == int(part.abs().max())


def test_wide_accumulators_change_nothing_and_narrow_ones_everything():
    whole = zero_points.quality("plain", "symmetric", "")
    assert accumulator_width.wrapped(32).quality == whole
    assert accumulator_width.wrapped(16).quality.value < 0.2
    for state, picture in sweep(
        accumulator_width.scene, accumulator_width.State(), accumulator_width.controls()
    ):
        limit = 2 ** (state.bits - 1) - 1
        grown = accumulator_width.growth(state.layer)
        first = picture.readout("first overflow after").value
        if first == "never":
            assert int(grown.largest.max()) <= limit
        else:
            assert int(grown.largest[int(first) - 1]) > limit
            assert int(grown.largest[: int(first) - 1].max() if int(first) > 1 else 0) <= limit
        assert 0 <= float(picture.readout("sums that wrap").value) <= 100
