"""Curvature: Hutchinson's estimates on quadratics, predictions against Hessians written down."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch import nn
from torch.nn import functional

from labkit.data import load_mnist
from labkit.hessian import (
    hessian_sensitivity,
    hutchinson_diagonal,
    hutchinson_trace,
    rank_correlation,
)
from labkit.quantize import quantize_model
from labkit.sensitivity import measure_sensitivity
from labkit.zoo import mnist_mlp
from labkit.zoo_large import TransformerBlock


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def quadratic(matrix):
    """½ wᵀHw and w."""
    w = torch.randn(len(matrix), generator=generator(), dtype=torch.float64, requires_grad=True)
    return 0.5 * w @ matrix @ w, w


def random_symmetric(n, seed):
    a = torch.randn(n, n, generator=generator(seed), dtype=torch.float64)
    return a + a.T


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.integers(0, 1000))
def test_a_diagonal_hessian_is_found_exactly_by_one_sample(diagonal, seed):
    wanted = torch.tensor(diagonal, dtype=torch.float64)
    loss, w = quadratic(wanted.diag())
    (found,) = hutchinson_diagonal(loss, [w], samples=1, generator=generator(seed))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)
    trace = hutchinson_trace(loss, [w], samples=1, generator=generator(seed))
    assert trace.item() == pytest.approx(wanted.sum().item(), abs=1e-12 * wanted.abs().sum().item())


@settings(max_examples=15)
@given(st.integers(2, 30), st.integers(0, 1000))
def test_trace_and_diagonal_lie_within_five_standard_errors(n, seed):
    matrix, samples = random_symmetric(n, seed), 100
    loss, w = quadratic(matrix)
    off = matrix - matrix.diag().diag()
    # Of zᵀHz the variance is 2 Σ_{i≠j} H_ij², of (z ⊙ Hz)_i it is Σ_{j≠i} H_ij².
    bound = 5 * (2 * off.square().sum() / samples).sqrt()
    trace = hutchinson_trace(loss, [w], samples=samples, generator=generator(seed + 1))
    assert abs(trace.item() - matrix.trace()) < bound
    (found,) = hutchinson_diagonal(loss, [w], samples=samples, generator=generator(seed + 2))
    assert ((found - matrix.diag()).abs() < 5 * (off.square().sum(1) / samples).sqrt()).all()


def test_each_parameter_gets_its_own_block():
    # 300 samples; what u and v share leaves a standard error of 0.4 in the traces, 0.1 in entries.
    u = torch.ones(3, dtype=torch.float64, requires_grad=True)
    v = torch.ones(2, 2, dtype=torch.float64, requires_grad=True)
    unused = torch.ones(2, dtype=torch.float64, requires_grad=True)
    loss = (u**2).sum() + 3 * (v**2).sum() + u.sum() * v.sum()
    traces = hutchinson_trace(loss, [u, v, unused], samples=300, generator=generator())
    torch.testing.assert_close(traces, torch.tensor([6.0, 24.0, 0.0]).double(), rtol=0, atol=2)
    diagonals = hutchinson_diagonal(loss, [u, v, unused], samples=300, generator=generator())
    assert [d.shape for d in diagonals] == [u.shape, v.shape, unused.shape]
    torch.testing.assert_close(diagonals[1], torch.full_like(v, 6), rtol=0, atol=1)
    assert not diagonals[2].any()


def test_the_same_seed_gives_the_same_estimate_and_leaves_no_trace():
    loss, w = quadratic(random_symmetric(6, 0))
    first, second = (
        hutchinson_diagonal(loss, [w], samples=3, generator=generator(7))[0] for _ in range(2)
    )
    assert torch.equal(first, second) and w.grad is None and not first.requires_grad


def test_a_linear_loss_has_no_curvature():
    w = torch.ones(3, requires_grad=True)
    assert hutchinson_trace((2 * w).sum(), [w]).item() == 0


@pytest.mark.parametrize("estimate", [hutchinson_diagonal, hutchinson_trace])
def test_what_has_no_hessian_is_refused(estimate):
    w = torch.ones(3, requires_grad=True)
    for loss in (w**2, torch.tensor(1.0), 3.0):
        with pytest.raises(ValueError, match="scalar tensor computed from the parameters"):
            estimate(loss, [w])
    with pytest.raises(ValueError, match="samples must be at least 1, got 0"):
        estimate((w**2).sum(), [w], samples=0)


# --- the predicted increase of the loss ---


@pytest.fixture(scope="module")
def small():
    """A trained-size problem whose Hessian can be written down: 6 inputs, 5 hidden, 3 classes."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    x, y = torch.randn(40, 6).double(), torch.randint(0, 3, (40,))
    return model, [(x[:30], y[:30]), (x[30:], y[30:])]


def true_hessian(model, name, batches):
    """The Hessian of the mean loss in one layer's weight, (n, n), by torch."""
    layer = model.get_submodule(name)
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))

    def loss(flat):
        weights = {f"{name}.weight": flat.view_as(layer.weight)}
        return functional.cross_entropy(torch.func.functional_call(model, weights, (x,)), y)

    return torch.autograd.functional.hessian(loss, layer.weight.detach().flatten())


def error(model, name, bits):
    quantized, _ = quantize_model(model, bits={name: bits})
    weight = model.get_submodule(name).weight.detach()
    return (quantized.get_submodule(name).weight.double() - weight).flatten()


def test_full_is_half_the_quadratic_form_of_the_true_hessian(small):
    table = hessian_sensitivity(*small, bits=(2, 4), curvature="full")
    for row, name in enumerate(table.layers):
        hessian = true_hessian(small[0], name, small[1])
        for column, bits in enumerate(table.bits):
            e = error(small[0], name, bits)
            assert table.loss[row, column] == pytest.approx((0.5 * e @ hessian @ e).item())


@pytest.mark.parametrize("name", ["0", "2"])
@pytest.mark.parametrize("curvature", ["diagonal", "trace"])
def test_an_estimate_lies_within_five_standard_errors_of_the_true_hessian(small, curvature, name):
    (model, batches), samples = small, 400
    table = hessian_sensitivity(
        model,
        batches[:1],
        bits=(2, 4),
        curvature=curvature,
        samples=samples,
        exclude={"0": "2", "2": "0"}[name],
    )
    hessian = true_hessian(model, name, batches[:1])
    for bits, predicted in zip(table.bits, table.loss[0], strict=True):
        squares = error(model, name, bits).square()
        if curvature == "trace":
            squares = squares.mean().expand_as(squares)
        wanted = 0.5 * (hessian.diag() * squares).sum()
        # The estimate is the mean of zᵀAz, whose variance is 2 Σ_{i≠j} of its symmetric part.
        a = 0.5 * squares[:, None] * hessian
        off = (a + a.T) / 2 - a.diag().diag()
        assert abs(predicted - wanted) < 5 * (2 * off.square().sum() / samples).sqrt()


def test_a_model_is_left_as_it_was_and_bytes_are_those_of_the_measured_table(small):
    model = copy.deepcopy(small[0]).train()
    model[0].weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    table = hessian_sensitivity(model, small[1], bits=(2, 8), samples=1)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.training and not model[0].weight.requires_grad and model[2].weight.grad is None
    measured = measure_sensitivity(model, lambda m: 0.0, (2, 8))
    np.testing.assert_array_equal(table.bytes, measured.bytes)
    assert table.baseline == 0


def test_attention_has_a_second_derivative_too():
    torch.manual_seed(0)
    for block in (
        TransformerBlock(8, 2),
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
    ):
        x = torch.randn(4, 5, 8)
        table = hessian_sensitivity(
            block, [(x, torch.zeros(4, 5, 8))], functional.mse_loss, (2, 8), curvature="full"
        )
        assert len(table.layers) == 6
        assert (np.abs(table.loss[:, 0]) > np.abs(table.loss[:, 1])).all()


def test_what_cannot_be_predicted_is_refused(small):
    model, batches = small
    with pytest.raises(ValueError, match="curvature must be one of diagonal, trace, full"):
        hessian_sensitivity(model, batches, curvature="exact")
    with pytest.raises(ValueError, match=r"at least one batch of \(inputs, targets\)"):
        hessian_sensitivity(model, [])
    with pytest.raises(ValueError, match="from 2 to 8"):
        hessian_sensitivity(model, batches, bits=(1,))


def test_the_prediction_orders_the_cells_of_a_real_network_much_as_measuring_does():
    mnist = load_mnist()
    images, labels = mnist.train_images[-300:], mnist.train_labels[-300:]

    def quality(model):
        with torch.no_grad():
            return -functional.cross_entropy(model(images), labels).item()

    measured = measure_sensitivity(mnist_mlp(), quality, (2, 3, 4))
    predicted = hessian_sensitivity(mnist_mlp(), [(images, labels)], bits=(2, 3, 4), samples=8)
    assert rank_correlation(predicted.loss, measured.loss) > 0.6


# --- rank correlation ---


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=2, max_size=12))
def test_rank_correlation_is_that_of_the_mean_ranks(pairs):
    a, b = np.array(pairs).T
    if len(set(a)) == 1 or len(set(b)) == 1:
        with pytest.raises(ValueError, match="not all equal"):
            rank_correlation(a, b)
        return
    # By hand: Pearson's correlation of the ranks, equal values sharing their mean rank.
    ranks = [np.array([(x < v).sum() + ((x == v).sum() + 1) / 2 for v in x]) for x in (a, b)]
    assert rank_correlation(a, b) == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)


def test_tables_that_have_no_order_are_refused():
    with pytest.raises(ValueError, match="same shape"):
        rank_correlation([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="finite values"):
        rank_correlation([1, math.nan], [1, 2])
    assert rank_correlation([[1, 2], [3, 4]], [[4, 3], [2, 1]]) == pytest.approx(-1)
