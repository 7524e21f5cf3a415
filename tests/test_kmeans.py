"""k-means: against the exact optimum, the uniform grid, and the laws of its own iteration."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labkit.affine import choose_qparams, fake_quantize
from labkit.grids import nearest
from labkit.kmeans import kmeans_levels


def error(x, levels):
    chosen = levels[nearest(x, levels).long()].double()
    return (chosen - x.double()).square().mean().item()


def datasets(count):
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(count, generator=generator)
    half = count // 2
    return {
        "gauss": normal,
        "relu": normal.relu(),
        "evenly spread": torch.rand(count, generator=generator),
        "outlier": torch.cat([normal, torch.tensor([2380.0])]),
        "lognormal": (3 * normal).exp(),
        "cauchy": normal / torch.randn(count, generator=generator),
        "two clusters": torch.cat([normal[:half] * 1e-3, normal[half:] * 1e-3 + 100]),
        "mostly zeros": normal * (torch.rand(count, generator=generator) < 0.1),
    }


NAMES = list(datasets(1))


def optimum(x, count):
    """The smallest mean squared error that `count` levels can have, by dynamic programming."""
    v = np.sort(x.double().numpy())
    n = len(v)
    # cost[i, j]: the squared error of the run v[i:j] around its mean, each run centred by itself.
    cost = np.full((n + 1, n + 1), np.inf)
    for i in range(n):
        run, size = v[i:] - v[i], np.arange(1, n - i + 1)
        cost[i, i + 1 :] = np.maximum(0, (run**2).cumsum() - run.cumsum() ** 2 / size)
    best = np.where(np.arange(n + 1) == 0, 0, np.inf)
    for _ in range(count):
        best = (best[:, None] + cost).min(0)
    return best[n] / n


@pytest.mark.parametrize("bits", [2, 3, 4, 5])
@pytest.mark.parametrize("name", NAMES)
def test_the_table_is_close_to_the_best_that_exists(name, bits):
    x = datasets(400)[name]
    assert error(x, kmeans_levels(x, bits)) <= 1.001 * optimum(x, 2**bits)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("name", NAMES)
def test_never_worse_than_the_uniform_grid(name, bits):
    x = datasets(5000)[name]
    uniform = fake_quantize(x, choose_qparams(x, bits)).double() - x.double()
    assert error(x, kmeans_levels(x, bits)) <= uniform.square().mean().item()


@given(
    st.lists(st.floats(-(2.0**66), 2.0**66, width=32), min_size=1, max_size=60), st.integers(2, 4)
)
def test_never_worse_than_the_uniform_grid_on_any_values(values, bits):
    x = torch.tensor(values)
    uniform = fake_quantize(x, choose_qparams(x, bits)).double() - x.double()
    # The table is float32: each of its levels may be off by half a unit in the last place.
    rounding = (2**-24 * x.double().abs().max().item()) ** 2
    allowed = 1.000001 * uniform.square().mean().item() + rounding
    assert error(x, kmeans_levels(x, bits)) <= allowed


def test_eight_bits_for_bell_shaped_weights_reach_what_theory_promises():
    # Panter & Dite 1951: many levels on a Gaussian err by π √3 / 2 / levels².
    x = torch.randn(200_704, generator=torch.Generator().manual_seed(0))
    assert error(x, kmeans_levels(x, 8)) == pytest.approx(np.pi * 3**0.5 / 2 / 256**2, rel=0.05)


def test_levels_are_the_means_of_their_cells():
    x = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    levels = kmeans_levels(x, 3, iterations=1000)
    assigned = nearest(x, levels)
    means = torch.stack([x[assigned == i].double().mean() for i in range(8)])
    assert torch.allclose(levels.double(), means, atol=1e-6)
    # Max 1960, table I: the best 8 levels for a Gaussian give 0.03454.
    assert error(x, levels) == pytest.approx(0.03454, rel=0.03)


def test_exact_when_the_values_are_few():
    x = torch.tensor([1.0, 5.0, 1.0, 9.0, 9.0, -2.0])
    assert kmeans_levels(x, 2).tolist() == [-2.0, 1.0, 5.0, 9.0]
    assert set(kmeans_levels(torch.full((10,), 3.5), 4).tolist()) == {3.5}


def test_an_outlier_of_1e30_does_not_swallow_the_other_digits():
    x = torch.cat([torch.tensor([-1e30]), torch.arange(1.0, 33.0)])
    levels = kmeans_levels(x, 3)
    assert levels[0] == x[0]
    assert error(x, levels) <= 1.001 * optimum(x, 8)


def test_a_large_run_of_one_value_takes_one_level():
    x = torch.cat([torch.full((1000,), 1.1e38), torch.arange(40.0)])
    assert int((kmeans_levels(x, 3) > 100).sum()) == 1


def test_the_ends_of_float32():
    largest = torch.finfo(torch.float32).max
    x = torch.linspace(-1, 1, 100) * largest
    assert bool(kmeans_levels(x, 4).isfinite().all())
    tiny = torch.arange(1, 9) * 2.0**-149
    assert bool((kmeans_levels(tiny, 2).diff() > 0).all())


def test_bits_are_checked():
    with pytest.raises(ValueError, match="from 2 to 8"):
        kmeans_levels(torch.ones(3), 9)
