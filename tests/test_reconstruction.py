"""The parabola of a layer equals the mean squared error that torch's own layer makes."""

import copy

import pytest
import torch
from torch import nn

import labkit.reconstruction
from labkit.layers import LAYERS
from labkit.quantize import quantize_model
from labkit.reconstruction import Reconstruction, by_channel, patches, reconstruct

# Torch copies the input for an uneven "same" padding, and says so.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'")

KINDS = {
    "linear": (lambda: nn.Linear(5, 4), (7, 5)),
    "linear on tokens, no bias": (lambda: nn.Linear(5, 4, bias=False), (2, 3, 5)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), (3, 4, 9)),
    "conv1d, circular": (lambda: nn.Conv1d(4, 6, 3, padding=2, padding_mode="circular"), (3, 4, 9)),
    "conv2d": (lambda: nn.Conv2d(3, 4, (3, 2), stride=(1, 2), dilation=(2, 1)), (2, 3, 8, 7)),
    "same": (lambda: nn.Conv2d(3, 4, (4, 3), padding="same", bias=False), (2, 3, 6, 5)),
    "valid": (lambda: nn.Conv2d(3, 4, 2, padding="valid", padding_mode="reflect"), (2, 3, 6, 5)),
    "reflect": (lambda: nn.Conv2d(3, 4, 3, padding=(1, 2), padding_mode="reflect"), (2, 3, 6, 5)),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2), (2, 4, 5, 6)),
    "depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4), (2, 4, 5, 6)),
    "1 x 1": (lambda: nn.Conv2d(4, 6, 1), (2, 4, 5, 6)),
    "no batch around": (lambda: nn.Conv2d(4, 6, 3), (4, 5, 6)),
    "no batch around, 1d": (lambda: nn.Conv1d(4, 6, 3), (4, 5)),
}


def made(name):
    """Return the float layer, its quantized copy with another bias, and two batches."""
    build, shape = KINDS[name]
    torch.manual_seed(0)
    layer = build()
    quantized = LAYERS[type(layer)].from_float(layer, 3)
    if quantized.bias is not None:
        quantized.bias.data += torch.randn(len(quantized.bias))
    return layer, quantized, [torch.randn(shape) + 1 for _ in range(2)]


@pytest.mark.parametrize("name", KINDS)
def test_the_error_is_that_of_the_layer_with_the_changed_weight(name):
    layer, quantized, batches = made(name)
    seen = [x + 0.1 * torch.randn_like(x) for x in batches]
    wanted = [layer(x).detach() for x in batches]
    task = reconstruct(layer, quantized, zip(seen, wanted, strict=True))
    difference = torch.randn_like(layer.weight)
    changed = copy.deepcopy(layer)
    changed.weight.data += difference
    if layer.bias is not None:
        changed.bias.data.copy_(quantized.bias)
    channel = -1 if isinstance(layer, nn.Linear) else -1 - len(layer.kernel_size)
    squared = [(changed(x) - y).square() for x, y in zip(seen, wanted, strict=True)]
    direct = torch.cat([e.movedim(channel, 0).flatten(1) for e in squared], 1).mean(1)
    shape = (getattr(layer, "groups", 1), -1, layer.weight[0].numel())
    error = task.error(difference.double().reshape(shape)).flatten()
    assert torch.allclose(error, direct.double(), rtol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_an_output_is_a_patch_times_the_channels_weights(name):
    layer, quantized, (x, _) = made(name)
    rows = patches(quantized, x)
    weight = layer.weight.reshape(rows.shape[0], -1, rows.shape[2])
    outputs = (rows @ weight.mT).transpose(0, 1).flatten(1)
    if layer.bias is not None:
        outputs = outputs + layer.bias
    assert torch.allclose(outputs, by_channel(quantized, layer(x)), atol=1e-5)


def test_what_enters_a_layer_counts_as_the_layer_rounds_it():
    net = nn.Sequential(nn.Linear(6, 3))
    x = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    static, _ = quantize_model(net, "static", calibration_data=[x], activation_bits=2)
    rounded = static[0].input_quantizer(x).double()
    gram = reconstruct(net[0], static[0], [(x, net(x))]).gram
    assert torch.allclose(gram[0], rounded.T @ rounded / 20)
    assert not torch.allclose(gram[0], (x.double().T @ x.double()) / 20, rtol=0.01)


def test_a_large_batch_is_unfolded_in_parts_with_the_same_result(monkeypatch):
    layer, quantized, batches = made("grouped")
    visits = [(x, layer(x).detach()) for x in batches]
    whole = reconstruct(layer, quantized, visits)
    monkeypatch.setattr(labkit.reconstruction, "_ELEMENTS", 1)
    parts = reconstruct(layer, quantized, visits)
    assert torch.allclose(whole.gram, parts.gram) and torch.allclose(whole.cross, parts.cross)


def test_the_parabola_of_one_weight():
    # E (3 - (1 + d) 2)² with x = 2, y = 3 and W = 1: r = 1, H = 4, R = 2.
    task = Reconstruction(torch.tensor([[[4.0]]]), torch.tensor([[[2.0]]]), torch.tensor([[1.0]]))
    errors = [task.error(torch.tensor([[[d]]])).item() for d in (0.0, 0.5, 1.0)]
    assert errors == [1.0, 0.0, 1.0]
