"""Which results count as the same, and how a result is shown."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from labkit.exercises.compare import is_stored_as, same, show

ONES = torch.ones(2)


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        (1, 1.0, True),
        (1, 2, False),
        (True, 1, False),
        ("a", "a", True),
        ((1, 2), [1, 2], True),
        ((1, 2), (1, 2, 3), False),
        (torch.tensor([1, 2]), [1, 2], True),
        (torch.tensor([1, 2]), torch.tensor([[1, 2]]), False),
        (np.array([1.0]), torch.tensor([1.0]), True),
        (float("nan"), float("nan"), True),
        (float("inf"), float("inf"), True),
        (1.0, float("inf"), False),
        (torch.tensor([float("nan")]), torch.tensor([0.0]), False),
        ("text", torch.tensor([0.0]), False),
        ("1.5", 1.5, False),
        (np.array(["1.5"]), np.array([1.5]), False),
        (None, 0, False),
        ({"a": 1}, {"a": 1.0}, True),
        (np.float32(1), 1.0, True),
        (ONES.to(torch.bfloat16), ONES, True),
        (ONES.clone().requires_grad_(), ONES, True),
        (torch.ones(2, device="meta"), ONES, False),
        (torch.tensor(True), True, True),
        (torch.tensor([True, True]), ONES, False),
        (Fraction(1, 3), Fraction(1, 3), True),
    ],
)
def test_same(a, b, equal):
    assert same(a, b, 1e-9) == equal


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (1_000_000, 1_000_001),
        (2**70, 2**70 + 1),
        (torch.tensor([2**53 + 1]), torch.tensor([2**53])),
        (np.array([2**53 + 1]), torch.tensor([2**53])),
        (torch.tensor([1_000_000]), [1_000_001]),
    ],
)
@pytest.mark.parametrize("tolerance", [0.0, 1e-6])
def test_integers_are_compared_exactly(a, b, tolerance):
    assert not same(a, b, tolerance)
    assert same(b, b, tolerance)


@pytest.mark.parametrize("real", [1.0, 1, ONES])
def test_a_complex_number_is_no_real_one(real):
    assert not same(real + 0j, real, 1e-6)
    assert same(real + 1j, real + 1j, 1e-6)


@pytest.mark.parametrize("wrap", [float, torch.tensor, lambda v: [v], lambda v: (1, v)])
def test_the_tolerance_is_relative(wrap):
    half_precision = torch.tensor(2 / 255).half().item()
    assert not same(wrap(half_precision), wrap(2 / 255), 1e-6)
    assert not same(wrap(1e-9), wrap(2e-9), 1e-6)
    assert same(wrap(1e-9), wrap(1e-9 * (1 + 1e-7)), 1e-6)
    # Nothing is near zero in relative terms, and rounding errors are no mistake.
    assert same(wrap(1e-17), wrap(0.0), 1e-6)
    assert not same(wrap(1e-6), wrap(0.0), 1e-6)


def test_a_type_is_asked_by_name():
    bytes_ = torch.tensor([1], dtype=torch.uint8)
    assert is_stored_as(bytes_, "uint8")
    assert is_stored_as(bytes_.numpy(), "uint8")
    assert all(is_stored_as(bytes_.to(t), "integer") for t in (torch.int8, torch.int64))
    assert not any(is_stored_as(bytes_.to(t), "integer") for t in (torch.bool, torch.float32))
    assert not is_stored_as([1], "integer")


def test_values_are_shown_in_a_few_words():
    assert show(torch.tensor([1 / 3, 2.0])) == "[0.3333333, 2.0] (float32)"
    assert show(list(range(9))) == "list of 9"
    assert show(torch.ones(4, 6, dtype=torch.int64)) == f"{[[1] * 6] * 4} (int64)"
    assert show(torch.arange(25)) == "a tensor of shape (25,)"
    assert show(np.array([[1 / 3], [2]])) == "[[0.3333333], [2.0]]"
    assert (show(np.zeros((5, 5))), show(np.int64(3))) == ("an array of shape (5, 5)", "3")
    assert len(show("x" * 500)) < 130
    assert show(torch.ones(2, device="meta")) == "a value of type Tensor that cannot be shown"
