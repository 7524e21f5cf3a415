"""What enters a layer: the activations and tails of the calibration explorers."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from labkit.compare import compare_models
from labkit.evaluate import right_answers
from labkit.explorers.entering import (
    LAYERS,
    OBSERVER_WORDS,
    accuracy_of,
    against_float,
    answers,
    calibration,
    counts_in,
    digits,
    entering,
    later,
    network,
    read_right,
    watch,
)
from labkit.observers import OBSERVERS, make_observer


@pytest.mark.parametrize("layer", LAYERS)
def test_the_tail_goes_on_where_the_layer_begins(layer):
    images = digits().test_images[:50]
    with torch.no_grad():
        whole = network(layer)(images)
        split = LAYERS[layer].tail(network(layer), entering(layer, images))
    torch.testing.assert_close(split, whole)


def test_fc2_gets_the_relu_of_fc1():
    net = network("fc2")
    images = digits().train_images[:100]
    expected = functional.linear(images.flatten(1), net.fc1.weight, net.fc1.bias).relu()
    torch.testing.assert_close(calibration("fc2"), expected)


@pytest.mark.parametrize("layer", LAYERS)
def test_no_hook_stays_and_nothing_is_negative(layer):
    assert later(layer).min() >= 0
    assert not network(layer).get_submodule(LAYERS[layer].name)._forward_pre_hooks


@pytest.mark.parametrize("layer", LAYERS)
def test_unquantized_answers_are_those_of_the_float_network(layer):
    expected = right_answers(network(layer), digits().test_images, digits().test_labels)
    assert torch.equal(answers(layer, None), expected)


def test_every_observer_has_words_and_they_say_what_was_made():
    assert list(OBSERVER_WORDS) == list(OBSERVERS)
    x = torch.rand(20, 4, generator=torch.Generator().manual_seed(0))
    for name in OBSERVER_WORDS:
        alone = make_observer(name, bits=3)
        for batch in x.split(5):
            alone.observe(batch)
        assert watch(name, 3, x.split(5)).range() == alone.range()


def test_words_against_float_are_those_of_the_comparison():
    base = torch.ones(1000, dtype=torch.bool)
    worse = base.clone()
    assert "+0.0 points" in against_float(base, base) and "not resolved" in against_float(
        base, base
    )
    worse[:50] = False
    one, other = torch.eye(2)[base.long()], torch.eye(2)[worse.long()]
    numbers = torch.arange(1000)
    said = compare_models(lambda i: one[i], lambda i: other[i], numbers, base.long())
    assert f"{100 * said.difference:+.1f} points" in against_float(worse, base)
    assert ", resolved" in against_float(worse, base)


def test_the_large_number_carries_its_interval():
    right = torch.arange(1000) < 900
    found = accuracy_of(right)
    assert read_right(right).value == "90.0 %"
    assert read_right(right).unit == f"[{100 * found.low:.1f}, {100 * found.high:.1f}]"


def test_counts_are_those_of_numpy_but_never_0():
    x = torch.tensor([0.1, 0.2, 2.5])
    assert counts_in(x, np.arange(5.0)).tolist() == [2, 0.5, 1, 0.5]
