"""Sensitivity: one layer at a time, against plain torch; on processes and on a cluster."""

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
from dask.distributed import Client, LocalCluster
from joblib import parallel_config
from torch import nn
from torch.nn import functional

from labkit.data import load_mnist
from labkit.evaluate import Accuracy, accuracy
from labkit.mixed import allocate_bits, bytes_of, measure_sensitivity, widths_of
from labkit.quantize import quantize_model
from labkit.sensitivity import Sensitivity, layer_bytes
from labkit.zoo import mnist_cnn, mnist_mlp


@pytest.fixture(scope="module")
def digits():
    mnist = load_mnist()
    return mnist.train_images[-100:], mnist.train_labels[-100:]


def minus_loss(images, labels, model):
    with torch.no_grad():
        return -functional.cross_entropy(model(images), labels).item()


def rounded(weight, bits):
    """The plain formula, apart from labkit: symmetric, one scale a channel."""
    top = 2 ** (bits - 1) - 1
    scale = weight.abs().flatten(1).amax(1).reshape(-1, *[1] * (weight.ndim - 1)) / top
    return (weight / scale).round().clamp(-top, top) * scale


@pytest.mark.parametrize("build", [mnist_mlp, mnist_cnn])
def test_each_cell_is_the_quality_with_only_that_layer_rounded(build, digits):
    model, bits = build(), (2, 4, 8)
    table = measure_sensitivity(model, partial(minus_loss, *digits), bits)
    assert table.baseline == pytest.approx(minus_loss(*digits, model), rel=1e-4)
    for row, name in enumerate(table.layers):
        for column, width in enumerate(bits):
            changed = copy.deepcopy(model)
            layer = changed.get_submodule(name)
            layer.weight.data = rounded(layer.weight.data, width)
            wanted = minus_loss(*digits, changed)
            assert table.quality[row, column] == pytest.approx(wanted, rel=1e-4)
    np.testing.assert_array_equal(table.loss, table.baseline - table.quality)


@pytest.mark.parametrize("build", [mnist_mlp, mnist_cnn])
def test_the_bytes_of_any_choice_are_those_of_the_quantized_model(build):
    model, bits, rng = build(), (2, 3, 5, 8), np.random.default_rng(0)
    table = measure_sensitivity(model, lambda model: 0.0, bits)
    for _ in range(5):
        choice = rng.integers(0, len(bits), len(table.layers))
        _, report = quantize_model(model, bits=widths_of(table, choice))
        assert bytes_of(table, choice) == report.quantized_bytes


def test_the_bytes_of_layers_that_share_a_weight_count_once():
    model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 10, bias=False))
    model[1].weight = model[0].weight
    layers, sizes, other = layer_bytes(model, (2, 8), (), {})
    assert layers == ("0", "1") and other == 0
    for column, width in enumerate((2, 8)):
        assert sizes[:, column].sum() == quantize_model(model, bits=width)[1].quantized_bytes


def test_an_accuracy_counts_as_its_value(digits):
    table = measure_sensitivity(
        mnist_mlp(), lambda model: accuracy(model, *digits), (2, 8), granularity="tensor"
    )
    assert table.baseline == accuracy(mnist_mlp(), *digits).value
    assert isinstance(accuracy(mnist_mlp(), *digits), Accuracy)
    assert table.quality.dtype == np.float64 and table.bytes.dtype == np.int64
    assert (table.quality[:, 0] < table.quality[:, 1]).all()


def test_methods_granularity_and_exclusions_are_those_of_quantize_model(digits):
    model, evaluate = mnist_cnn(), partial(minus_loss, *digits)
    options = {"method": "static", "calibration_data": [digits[0]], "granularity": "tensor"}
    table = measure_sensitivity(model, evaluate, (4,), exclude=["conv1", "conv4"], **options)
    assert table.layers == ("depthwise", "pointwise", "fc")
    quantized, _ = quantize_model(model, bits={"pointwise": 4}, **options)
    assert table.quality[1, 0] == pytest.approx(evaluate(quantized), rel=1e-4)


def test_the_model_and_the_threads_are_left_as_they_were(digits):
    model = mnist_cnn().train()
    model.bn1.eval()
    modes = [module.training for module in model.modules()]
    before, threads = copy.deepcopy(model.state_dict()), torch.get_num_threads()

    def spoil(candidate):
        assert torch.get_num_threads() == 1
        for parameter in candidate.parameters():
            parameter.data.zero_()
        return 0.0

    measure_sensitivity(model, spoil, (2, 8))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.get_num_threads() == threads


def test_the_workers_of_a_dask_cluster_give_identical_numbers(digits):
    model, evaluate = mnist_mlp(), partial(minus_loss, *digits)
    here = measure_sensitivity(model, evaluate, (2, 4))
    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    )
    with cluster, Client(cluster) as client:
        with parallel_config(backend="dask", scatter=[model, evaluate]):
            there = measure_sensitivity(model, evaluate, (2, 4))
        ran = [len(log) for log in client.run(_tasks_done).values()]
    assert sum(ran) > 0 and len(ran) == 2
    assert there.baseline == here.baseline and there.layers == here.layers
    np.testing.assert_array_equal(there.quality, here.quality)
    np.testing.assert_array_equal(there.bytes, here.bytes)


def _tasks_done(dask_worker):
    return [key for key in dask_worker.state.log if "_cell" in str(key) or "batch" in str(key)]


def test_two_processes_give_identical_numbers(digits):
    measure = partial(measure_sensitivity, mnist_mlp(), partial(minus_loss, *digits), (2, 4))
    np.testing.assert_array_equal(measure(n_jobs=2).quality, measure().quality)


def test_a_table_reads_as_text_and_as_a_heat_map():
    table = Sensitivity(
        ("<a>", "b"), (2, 8), np.array([[0.1, 0.9], [0.6, 0.9]]), 0.9, np.ones((2, 2)), 0
    )
    assert str(table).splitlines()[-1] == "  float: 0.9" and repr(table) == str(table)
    html = table._repr_html_()
    assert "&lt;a&gt;" in html and "<a>" not in html
    # The worst cell is the fullest, those without loss are empty.
    shades = [float(part.split(")")[0]) for part in html.split("rgba(209,118,0,")[1:]]
    assert shades[0] == max(shades) > shades[2] > shades[1] == shades[3] == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bits": ()}, "at least one width"),
        ({"bits": (4, 4)}, "each once; got (4, 4)"),
        ({"bits": (4, 9)}, "from 2 to 8, got 9"),
        ({"bits": 4}, "bits must be a list of widths"),
        ({"method": "qat"}, 'method must be "weight_only", "dynamic" or "static"'),
        ({"method": "best"}, "got 'best'"),
        ({"granularity": 5}, "does not divide"),
        ({"exclude": ["fc9"]}, "did you mean"),
    ],
)
def test_bad_options_are_refused_before_anything_is_measured(options, words):
    def never(model):
        raise RuntimeError("it was measured")

    with pytest.raises(ValueError) as caught:
        measure_sensitivity(mnist_mlp(), never, **options)
    assert words in str(caught.value)


def test_what_is_no_quality_is_refused_by_the_layers_name():
    with pytest.raises(ValueError, match="evaluate must be a function"):
        measure_sensitivity(mnist_mlp(), 0.5)
    with pytest.raises(ValueError, match="must return an Accuracy or a number, got NoneType"):
        measure_sensitivity(mnist_mlp(), lambda model: None)
    with pytest.raises(ValueError, match="nan for the float model"):
        measure_sensitivity(mnist_mlp(), lambda model: math.nan)

    def breaks(model):
        return math.inf if hasattr(model.fc2, "packed") else 0.0

    with pytest.raises(ValueError, match="inf for layer 'fc2' at 2 bits"):
        measure_sensitivity(mnist_mlp(), breaks, (2,))


def test_a_table_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"quality must be \(layers, bits\) = \(1, 2\)"):
        Sensitivity(("a",), (2, 8), np.zeros((2, 2)), 0.0, np.zeros((1, 2)))


def test_bits_chosen_by_it_beat_two_bits_everywhere_for_a_few_bytes_more(digits):
    mnist, model = load_mnist(), mnist_mlp()
    table = measure_sensitivity(model, partial(minus_loss, *digits), (2, 3, 4, 8))
    two, three = (bytes_of(table, [column] * 3) for column in (0, 1))
    budget = two + (three - two) // 2
    choice = allocate_bits(table.loss, [("bytes", table.bytes, budget - table.other_bytes)])
    mixed, report = quantize_model(model, bits=widths_of(table, choice))
    uniform, _ = quantize_model(model, bits=2)
    found = [accuracy(m, mnist.test_images, mnist.test_labels) for m in (uniform, mixed)]
    assert report.quantized_bytes <= budget and found[0].high < found[1].low
