"""labkit/straight_through.py: the same as fake_quantize, and as the formulas, for any layout."""

import pytest
import torch

from labkit import granularity
from labkit.affine import fake_quantize
from labkit.lsq import straight_through
from labkit.qparams import QParams, choose_qparams
from labkit.straight_through import passed_back


def sample(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_the_formulas(gradient, x, grid):
    """Both gradients from the docstring, in float64."""
    scale, zero_point = grid.scale.double(), grid.zero_point.double()
    # The codes are those of float32: a half-way point stays one.
    codes = (x / grid.scale).round().double() + zero_point
    inside = (codes >= grid.quant_min) & (codes <= grid.quant_max)
    end = codes.clamp(grid.quant_min, grid.quant_max) - zero_point
    of_steps = gradient * torch.where(inside, end - x.double() / scale, end)
    return gradient * inside, of_steps.sum_to_size(scale.shape)


@pytest.fixture(params=[2**20, 64])
def block_elements(request, monkeypatch):
    """One block, and many."""
    monkeypatch.setattr(granularity, "BLOCK_ELEMENTS", request.param)


@pytest.mark.parametrize("axis", [None, 0, 1, 2])
def test_both_gradients_are_those_of_the_formulas(axis, block_elements):
    x, gradient = sample(7, 6, 10), sample(7, 6, 10, seed=1)
    # Half the range, so that much of it clips.
    grid = choose_qparams(0.5 * x, 3, axis=axis)
    for_x, for_steps = passed_back(gradient, x, grid, of_steps=True)
    expected_x, expected_steps = by_the_formulas(gradient, x, grid)
    assert torch.equal(for_x, expected_x)
    torch.testing.assert_close(for_steps.double(), expected_steps, rtol=1e-5, atol=1e-5)


def test_a_gradient_may_lie_in_memory_as_it_likes(block_elements):
    x, gradient = sample(8, 8), sample(8, 8, seed=1).T
    grid = choose_qparams(0.5 * x, 3)
    for_x, _ = passed_back(gradient, x, grid)
    assert torch.equal(for_x, by_the_formulas(gradient, x, grid)[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("options", [{}, {"axis": 0}, {"group_size": 5}])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_training_computes_fake_quantize_bit_for_bit(dtype, options, share):
    x, gradient = sample(12, 20).to(dtype), sample(12, 20, seed=1).to(dtype)
    grid = choose_qparams(share * x, 4, **options)
    ours, expected = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, wanted = straight_through(ours, grid), fake_quantize(expected, grid)
    y.backward(gradient)
    wanted.backward(gradient)
    assert y.dtype == dtype
    assert torch.equal(y, wanted)
    assert torch.equal(ours.grad, expected.grad)


def test_half_way_points_go_to_the_even_code():
    x = torch.tensor([0.5, 1.5, 2.5, 3.5])
    assert straight_through(x, QParams(1.0, 0, 0, 7)).tolist() == [0.0, 2.0, 2.0, 4.0]
