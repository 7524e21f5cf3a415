"""The measured grid: each row is what quantizing that way by hand gives."""

import copy

import pytest
import torch

from labkit.data import load_mnist
from labkit.evaluate import accuracy
from labkit.measurements import Measurement, measure_grid
from labkit.quantize import quantize_model
from labkit.zoo import mnist_mlp


@pytest.fixture(scope="module")
def mnist():
    return load_mnist()


@pytest.fixture(scope="module")
def grid(mnist):
    return measure_grid(mnist_mlp(), mnist, bits=(8, 2), samples=(20, 200), progress=False)


def test_it_holds_every_way_once(grid):
    ways = [(row.method, row.bits, row.samples) for row in grid.rows]
    without = [(method, bits, 0) for method in ("weight_only", "dynamic") for bits in (8, 2)]
    with_samples = [(m, b, n) for m in ("static", "qat") for b in (8, 2) for n in (20, 200)]
    assert sorted(ways) == sorted(without + with_samples)


def test_a_row_is_that_quantized_model(grid, mnist):
    data = [mnist.train_images[:200]]
    quantized, report = quantize_model(mnist_mlp(), "static", bits=2, calibration_data=data)
    row = grid.find("static", 2, 200)
    assert row.quality == accuracy(quantized, mnist.test_images, mnist.test_labels)
    assert row.bytes == report.quantized_bytes
    assert grid.original.bytes == report.original_bytes
    assert grid.original.quality == accuracy(mnist_mlp(), mnist.test_images, mnist.test_labels)


def test_training_changes_what_two_bits_can_do(grid):
    assert grid.find("qat", 2).against(grid.find("static", 2)).low > 0.05


def test_rows_are_compared_sample_by_sample(grid):
    row = grid.find("static", 2)
    difference = row.against(grid.original)
    assert difference.only_first == int((grid.original.right & ~row.right).sum())
    assert difference.difference == pytest.approx(row.quality.value - grid.original.quality.value)
    with pytest.raises(ValueError, match="tested on 1000 samples and float on 3"):
        row.against(Measurement("float", 32, 0, 1, torch.ones(3, dtype=torch.bool)))


def test_the_table_says_all_of_it(grid):
    lines = str(grid).splitlines()
    assert len(lines) == 1 + len(grid.rows)
    for line, row in zip(lines, (grid.original, *grid.rows), strict=True):
        assert line.startswith(row.name) and str(row.quality) in line
        assert f"{row.bytes:,} bytes" in line
    assert "resolved" in lines[-1]


def test_the_most_samples_are_found_unless_asked_otherwise(grid):
    assert grid.find("static", 8).samples == 200
    assert grid.find("static", 8, 20).samples == 20
    assert grid.find("static", 5) is None


def test_times_are_asked_of_each_quantized_model(mnist):
    seen = []

    def time_ratio(model):
        seen.append(model.fc1.bits)
        return 0.25

    options = {"methods": ["weight_only"], "bits": (8, 4), "progress": False}
    grid = measure_grid(mnist_mlp(), mnist, time_ratio=time_ratio, **options)
    assert seen == [8, 4] and {row.time_ratio for row in grid.rows} == {0.25}
    assert "0.25 of the time" in str(grid)


def test_the_model_is_left_alone(mnist):
    model = mnist_mlp()
    before = copy.deepcopy(model.state_dict())
    measure_grid(model, mnist, bits=(4,), samples=(50,), num_epochs=1, progress=False)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["statik"]}, "method must be one of .* got 'statik'"),
        ({"bits": (8, 9)}, "bits must be .* got 9"),
        ({"samples": (0,)}, "samples must be 1 to 4000, got 0"),
        ({"samples": (4001,)}, "samples must be 1 to 4000, got 4001"),
        ({"samples": (1.5,)}, "samples must be a whole number"),
    ],
)
def test_impossible_grids_are_refused(mnist, options, message):
    with pytest.raises(ValueError, match=message):
        measure_grid(mnist_mlp(), mnist, **options)
