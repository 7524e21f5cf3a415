"""The fusion: limits of device and wish, and the allocation problem made of them."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from labkit.constraints import Constraints
from labkit.fusion import Limits, fuse
from labkit.prediction import Prediction
from labkit.requirement import Requirement
from labkit.sensitivity import Sensitivity

BITS = (2, 4, 8)


@pytest.fixture
def features():
    """Three layers at three widths; only what the fusion reads."""
    rng = np.random.default_rng(0)
    loss = np.sort(rng.random((3, 3)), axis=1)[:, ::-1].copy()
    size = np.array([[10, 20, 40], [5, 10, 20], [30, 60, 120]])
    return SimpleNamespace(
        bits=BITS,
        loss=loss,
        bytes=size,
        seconds=size * 1e-3,
        other_bytes=7,
        other_seconds=0.01,
        float_seconds=1.0,
        original_bytes=800,
        quality=0.9,
        sensitivity=Sensitivity(("a", "b", "c"), BITS, 0.9 - loss, 0.9, size, 7),
    )


def total(table, choice):
    return sum(row[i] for row, i in zip(table, choice, strict=True))


def best(cost, fits):
    """The least cost of all choices that fit."""
    return min(total(cost, c) for c in itertools.product(range(3), repeat=3) if fits(c))


def test_the_loss_is_least_within_the_bytes_of_the_device(features):
    choice = fuse(features, Constraints(memory_bytes=107), Requirement()).solve()
    assert total(features.bytes, choice) + 7 <= 107
    wanted = best(features.loss, lambda c: total(features.bytes, c) <= 100)
    assert total(features.loss, choice) == pytest.approx(wanted)


def test_of_device_and_wish_the_tighter_limit_counts(features):
    fused = fuse(features, Constraints(memory_bytes=107), Requirement(max_bytes=87))
    assert fused.limits[0][0] == "bytes" and fused.limits[0][2] == 80


def test_a_ratio_is_a_limit_on_bytes(features):
    fused = fuse(features, Constraints(), Requirement(min_ratio=4))
    assert fused.limits[0][2] == 200 - 7


def test_what_the_file_holds_beside_the_layers_is_left_out_of_their_bytes(features):
    fused = fuse(features, Constraints(memory_bytes=107), Requirement(), fixed_bytes=50)
    assert fused.limits[0][2] == 57


def test_seconds_and_bytes_are_kept_together(features):
    fused = fuse(
        features, Constraints(memory_bytes=150, compute_share=0.5), Requirement(), float_seconds=0.2
    )
    choice = fused.solve()
    assert total(features.seconds, choice) + 0.01 <= 0.1
    assert [name for name, _, _ in fused.limits] == ["bytes", "seconds"]


def test_measured_seconds_correct_the_predicted_ones(features):
    device = Constraints(latency_seconds=0.2)
    plain, twice = (fuse(features, device, Requirement(), correction=c) for c in (1.0, 2.0))
    assert plain.limits[0][2] == pytest.approx(0.19)
    assert twice.limits[0][2] == pytest.approx(0.39)


def test_with_a_limit_on_the_loss_alone_the_bytes_are_least(features):
    fused = fuse(features, Constraints(), Requirement(max_loss=1.0))
    choice = fused.solve()
    assert fused.minimised == "bytes"
    assert total(features.loss, choice) <= 1.0
    wanted = best(features.bytes, lambda c: total(features.loss, c) <= 1.0)
    assert total(features.bytes, choice) == wanted


def test_checked_plans_say_which_sum_is_trusted_with_a_loss(features):
    checked = Prediction.of([0.2, 0.7, 1.5, 2.5], [0.0, 0.01, 0.3, 0.9])
    fused = fuse(features, Constraints(), Requirement(max_loss=0.05), prediction=checked)
    assert fused.limits[0][2] == 0.7
    half = fuse(
        features, Constraints(), Requirement(max_loss=0.05), prediction=checked, tighter=0.5
    )
    least = features.loss.min(axis=1).sum()
    assert half.limits[0][2] == pytest.approx(max(0.35, least))


def test_where_no_sum_is_trusted_the_least_loss_is_taken(features):
    checked = Prediction.of([0.2, 0.6], [0.5, 0.9])
    fused = fuse(features, Constraints(), Requirement(max_loss=0.05), prediction=checked)
    np.testing.assert_array_equal(fused.solve(), features.loss.argmin(axis=1))


def test_a_width_that_is_asked_for_leaves_no_choice(features):
    fused = fuse(features, Constraints(), Requirement(bits=4))
    assert fused.widths(fused.solve()) == {"a": 4, "b": 4, "c": 4}


def test_a_width_that_was_not_measured_is_refused(features):
    with pytest.raises(ValueError, match=r"3 bits are asked for.*2, 4, 8"):
        fuse(features, Constraints(), Requirement(bits=3))


def test_a_request_for_nothing_is_refused(features):
    with pytest.raises(ValueError, match="nothing is asked"):
        fuse(features, Constraints(), Requirement())


def test_what_blocks_is_named(features):
    few = fuse(features, Constraints(memory_bytes=20), Requirement())
    assert few.blocking() == ("bytes",)
    slow = fuse(features, Constraints(memory_bytes=150, latency_seconds=0.02), Requirement())
    assert slow.blocking() == ("seconds",)
    with pytest.raises(ValueError, match="'bytes' cannot be kept"):
        few.solve()


def test_the_choice_that_uses_least(features):
    fused = fuse(features, Constraints(memory_bytes=20), Requirement())
    np.testing.assert_array_equal(fused.least_of("bytes"), [0, 0, 0])


def test_the_fastest_choice_keeps_the_bytes(features):
    features.seconds = features.seconds[:, ::-1]
    fused = fuse(features, Constraints(memory_bytes=97, latency_seconds=0.02), Requirement())
    choice = fused.fastest()
    assert total(features.bytes, choice) <= 90
    wanted = best(features.seconds, lambda c: total(features.bytes, c) <= 90)
    assert total(features.seconds, choice) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("device", "wish", "names"),
    [
        (Constraints(memory_bytes=5), Requirement(), ("bytes",)),
        (Constraints(), Requirement(max_seconds=1), ("seconds",)),
        (Constraints(compute_share=0.5), Requirement(min_quality=0.8), ("seconds", "loss")),
        (Constraints(), Requirement(), ()),
    ],
)
def test_what_is_limited(device, wish, names):
    assert Limits.of(device, wish, 100, 0.9).names == names


def test_a_quality_that_is_asked_for_is_a_loss_from_floats():
    limits = Limits.of(Constraints(), Requirement(min_quality=0.85, max_loss=0.1), 100, 0.9)
    assert limits.loss == pytest.approx(0.05)


def test_a_limited_loss_needs_a_quality():
    with pytest.raises(ValueError, match="give evaluate"):
        Limits.of(Constraints(), Requirement(max_loss=0.1), 100, None)
