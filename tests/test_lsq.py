"""labkit/lsq.py: values and both gradients against torch's own operator, and by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.affine import fake_quantize
from labkit.lsq import initial_step, learned_step
from labkit.qparams import QParams


def sample(*shape, seed=0, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(*shape, generator=generator)


def gradients(function, x, scale):
    """What flows into x and the scale when something random flows into the result."""
    x, scale = x.clone().requires_grad_(), scale.clone().requires_grad_()
    y = function(x, scale)
    y.backward(sample(*y.shape, seed=9))
    return y.detach(), x.grad, scale.grad


# ---------------------------------------------------------------- against torch's operator


@pytest.mark.parametrize("zero_point", [0, 1])
@pytest.mark.parametrize(("quant_min", "quant_max"), [(-2, 1), (-8, 7), (0, 3), (0, 255)])
def test_per_tensor_it_is_torchs_learnable_fake_quantize(quant_min, quant_max, zero_point):
    x, scale = sample(40, 30), torch.tensor([0.31])
    factor = 1 / math.sqrt(x.numel() * (quant_max - zero_point or 1))

    def torchs(x, scale):
        zero = torch.tensor([float(zero_point)])
        return torch._fake_quantize_learnable_per_tensor_affine(
            x, scale, zero, quant_min, quant_max, factor
        )

    ours = gradients(lambda x, s: learned_step(x, s, quant_min, quant_max, zero_point), x, scale)
    for value, expected in zip(ours, gradients(torchs, x, scale), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("quant_min", "quant_max"), [(-2, 1), (-8, 7), (-128, 127)])
def test_per_channel_it_is_torchs_learnable_fake_quantize(quant_min, quant_max, axis):
    x = sample(6, 5, 40)
    channels = x.shape[axis]
    shape = [channels if d == axis else 1 for d in range(3)]
    scale = 0.05 + 0.2 * torch.rand(shape, generator=torch.Generator().manual_seed(1))
    factor = 1 / math.sqrt(x.numel() // channels * quant_max)

    def torchs(x, scale):
        return torch._fake_quantize_learnable_per_channel_affine(
            x, scale.flatten(), torch.zeros(channels), axis, quant_min, quant_max, factor
        )

    ours = gradients(lambda x, s: learned_step(x, s, quant_min, quant_max), x, scale)
    for value, expected in zip(ours, gradients(torchs, x, scale), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)


def test_the_values_are_those_of_fake_quantize():
    x, scale = sample(5, 7), torch.rand(5, 1) + 0.1
    grid = QParams(scale, torch.ones(5, 1), 0, 7, axis=0)
    assert torch.equal(learned_step(x, scale, 0, 7, 1), fake_quantize(x, grid))


# ---------------------------------------------------------------- against finite differences


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    scale=st.floats(0.1, 3.0),
    bits=st.integers(2, 4),
    channels=st.sampled_from([1, 3]),
)
def test_both_gradients_are_finite_differences_of_the_surrogate(seed, scale, bits, channels):
    quant_min, quant_max, h = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 1e-6
    x = sample(channels, 8, seed=seed, spread=2.0).double()
    # float32 is what a step is stored as.
    steps = (torch.tensor(scale) * torch.arange(1, channels + 1)[:, None]).double()
    # Half-way points, where a code jumps, are kinks: none is near.
    near = ((x / steps).frac().abs() - 0.5).abs() < 0.01
    x = torch.where(near, x + 0.05 * steps, x)
    codes = (x / steps).round()
    inside = (codes >= quant_min) & (codes <= quant_max)
    rounding, weights = codes - x / steps, sample(*x.shape, seed=seed + 1).double()

    def surrogate(x, steps):
        """Rounding moves a value by a fixed part of a step; beyond the ends there is the end."""
        end = codes.clamp(quant_min, quant_max)
        return (weights * steps * torch.where(inside, x / steps + rounding, end)).sum()

    def slope(of_x, of_steps):
        above, below = (surrogate(x + d * of_x, steps + d * of_steps) for d in (h, -h))
        return ((above - below) / (2 * h)).item()

    x_grad, steps_grad = x.clone().requires_grad_(), steps.clone().requires_grad_()
    (weights * learned_step(x_grad, steps_grad, quant_min, quant_max)).sum().backward()
    for channel in range(channels):
        one, factor = torch.zeros_like(steps), 1 / math.sqrt(8 * quant_max)
        one[channel] = 1
        expected = factor * slope(0, one)
        assert steps_grad.grad[channel].item() == pytest.approx(expected, abs=1e-6)
    for place in range(8):
        one = torch.zeros_like(x)
        one[0, place] = 1
        assert x_grad.grad[0, place].item() == pytest.approx(slope(one, 0), abs=1e-6)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # Equation 3 with Qn = 2, Qp = 1 and a step of 1: -Qn, Qp, or round(v / s) - v / s.
        (-5.0, -2.0),
        (5.0, 1.0),
        (0.2, -0.2),
        (0.7, 0.3),
        (-1.4, 0.4),
    ],
)
def test_equation_3_by_hand(value, expected):
    scale = torch.tensor(1.0, requires_grad=True)
    learned_step(torch.tensor([value]), scale, -2, 1).sum().backward()
    assert scale.grad.item() == pytest.approx(expected)


def test_the_number_of_elements_that_share_a_step_scales_its_gradient():
    x = sample(4, 25)
    grads = []
    for elements in (None, 100, 25):
        scale = torch.tensor(0.4, requires_grad=True)
        learned_step(x, scale, -8, 7, elements=elements).sum().backward()
        grads.append(scale.grad.item())
    assert grads[0] == grads[1] == pytest.approx(grads[2] / 2)


# ---------------------------------------------------------------- where it starts


def test_the_papers_initial_step():
    w = sample(8, 50)
    assert initial_step(w, 7).item() == pytest.approx(2 * w.abs().mean().item() / math.sqrt(7))
    per_channel = initial_step(w, 7, axis=0)
    assert per_channel.shape == (8, 1)
    for row, step in zip(w, per_channel, strict=True):
        assert step.item() == pytest.approx(2 * row.abs().mean().item() / math.sqrt(7))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: learned_step(torch.ones(3), torch.tensor(0.0), -2, 1), "positive"),
        (lambda: learned_step(torch.ones(3), torch.tensor(-1.0), -2, 1), "positive"),
        (lambda: learned_step(torch.ones(3), torch.tensor(math.nan), -2, 1), "positive"),
        (lambda: learned_step(torch.ones(2, 3), torch.ones(2), -2, 1), "broadcast"),
        (lambda: learned_step(torch.tensor([math.nan]), torch.tensor(1.0), -2, 1), "finite"),
        (lambda: learned_step(torch.ones(3).int(), torch.tensor(1.0), -2, 1), "floating-point"),
        (lambda: initial_step(torch.ones(0), 1), "needs values"),
        (lambda: initial_step(torch.ones(3), 0), "at least 1"),
        (lambda: initial_step(torch.ones(3), 1, axis=1), "axis 1 does not exist"),
    ],
)
def test_what_cannot_work_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
