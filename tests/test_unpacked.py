"""labkit/unpacked: weights unpacked once; nothing but the time changes."""

import pytest
import torch
from torch import nn

from labkit import layers
from labkit.quantize import quantize_model
from labkit.unpacked import unpacked
from labkit.zoo import mnist_cnn

X = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
METHODS = {
    "weight_only": {"bits": 3},
    "dynamic": {"bits": 4},
    "static": {"bits": 2, "calibration_data": X},
}


@pytest.mark.parametrize("method", METHODS)
def test_outputs_are_the_same_to_the_last_bit(method):
    model, _ = quantize_model(mnist_cnn(), method, **METHODS[method])
    with torch.no_grad():
        before = model(X)
        with unpacked(model):
            inside = model(X)
        after = model(X)
    assert torch.equal(before, inside) and torch.equal(before, after)


def test_each_weight_is_unpacked_once(monkeypatch):
    model, _ = quantize_model(mnist_cnn(), bits=4)
    count = sum(isinstance(m, layers.QuantLayer) for m in model.modules())
    calls, real = [], layers.unpack
    monkeypatch.setattr(layers, "unpack", lambda *a, **k: calls.append(1) or real(*a, **k))
    with torch.no_grad(), unpacked(model):
        for _ in range(3):
            model(X)
    assert len(calls) == count
    model(X)
    assert len(calls) == 2 * count


def test_afterwards_the_layers_hold_no_float_weight_even_after_an_error():
    model, _ = quantize_model(nn.Sequential(nn.Linear(4, 2)))
    with pytest.raises(RuntimeError), unpacked(model):
        raise RuntimeError
    assert model[0].kept is None


def test_a_block_inside_a_block_ends_without_ending_the_outer_one():
    model, _ = quantize_model(nn.Sequential(nn.Linear(4, 2)))
    with unpacked(model):
        with unpacked(model):
            pass
        assert model[0].kept is not None


def test_another_dtype_is_still_dequantized_as_asked():
    model, _ = quantize_model(nn.Sequential(nn.Linear(4, 2)))
    wanted = model[0].weight_as(torch.float64)
    with unpacked(model):
        assert torch.equal(model[0].weight_as(torch.float64), wanted)


@pytest.mark.parametrize("model", [nn.Linear(2, 2), lambda x: x])
def test_what_has_no_quantized_layers_passes(model):
    with unpacked(model):
        pass
