"""Learned rounding: against every choice there is on small layers, and on whole models."""

import copy
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from labkit.compare import compare_models
from labkit.data import load_mnist
from labkit.files import load, save
from labkit.layers import QuantLayer, QuantLinear
from labkit.qparams import QParams
from labkit.quantize import quantize_model
from labkit.rounding import learn_rounding, pull_to_the_ends, soft_rounding
from labkit.zoo import mnist_cnn, mnist_mlp


def data(*shape, seed=1):
    """Inputs whose features hang together, as those of real layers do."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(shape[0], *[1] * (len(shape) - 1), generator=generator)
    return torch.randn(shape, generator=generator) + common


def loss(quantized, model, x):
    """Mean squared error of each output channel, by the models themselves."""
    with torch.no_grad():
        error = (quantized(x) - model(x)).double().square()
    return error.transpose(0, 1).flatten(1).mean(1)


def grid(layer):
    """Scale and zero point of every weight of a Linear layer, by hand."""
    qparams = layer.qparams
    size = layer.weight_shape[1]
    both = qparams.scale.double(), qparams.zero_point.double()
    if layer.group_size is not None:
        return [value.repeat_interleave(layer.group_size, 1) for value in both]
    return [value.expand(layer.weight_shape[0], size) for value in both]


def least_loss(layer, weight, x):
    """The least mean squared error of each output over all 2^n ways to round its n weights."""
    scale, zero_point = grid(layer)
    low = (weight.double() / scale + zero_point).floor()
    ends = layer.qparams.quant_min, layer.qparams.quant_max
    ups = torch.tensor(list(itertools.product((0, 1), repeat=weight.shape[1])))
    least = []
    for row in range(len(weight)):
        codes = (low[row] + ups).clamp(*ends)
        difference = (codes - zero_point[row]) * scale[row] - weight[row].double()
        least.append((x.double() @ difference.T).square().mean(0).min())
    return torch.stack(least)


# ---------------------------------------------------------------- against every choice


@settings(max_examples=10)
@given(
    seed=st.integers(0, 2**16),
    bits=st.integers(2, 4),
    symmetric=st.booleans(),
    granularity=st.sampled_from(["tensor", "channel", 5]),
)
def test_no_better_than_the_best_and_no_worse_than_nearest(seed, bits, symmetric, granularity):
    torch.manual_seed(seed)
    net, x = nn.Linear(10, 4), data(60, 10, seed=seed)
    nearest, _ = quantize_model(net, bits=bits, symmetric=symmetric, granularity=granularity)
    learned = loss(learn_rounding(nearest, net, x, iterations=50), net, x)
    best, start = least_loss(nearest, net.weight.detach(), x), loss(nearest, net, x)
    assert (learned >= best * (1 - 1e-4) - 1e-12).all()
    assert (learned <= start * (1 + 1e-4) + 1e-12).all()


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_of_what_rounding_can_gain_nearly_all_is_gained(bits):
    torch.manual_seed(bits)
    net, x = nn.Linear(10, 60), data(60, 10)
    nearest, _ = quantize_model(net, bits=bits)
    learned = loss(learn_rounding(nearest, net, x), net, x)
    best, start = least_loss(nearest, net.weight.detach(), x), loss(nearest, net, x)
    assert (start - learned).sum() > 0.95 * (start - best).sum() > 0


LAYERS = {
    "linear": (lambda: nn.Linear(12, 5), (40, 12)),
    "tokens": (lambda: nn.Linear(12, 5), (10, 4, 12)),
    "conv1d": (lambda: nn.Conv1d(8, 6, 5, padding=2, groups=2), (10, 8, 9)),
    "conv2d": (lambda: nn.Conv2d(3, 5, 3, padding="same", padding_mode="reflect"), (8, 3, 7, 7)),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, stride=2, groups=2), (8, 4, 9, 9)),
    "depthwise": (lambda: nn.Conv2d(8, 16, 3, padding=1, groups=8, bias=False), (8, 8, 7, 7)),
}


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("name", LAYERS)
def test_no_channel_gets_worse_and_the_layer_gets_better(name, bits):
    build, shape = LAYERS[name]
    torch.manual_seed(0)
    net, x = nn.Sequential(build()), data(*shape).relu()
    nearest, _ = quantize_model(net, bits=bits)
    learned = learn_rounding(nearest, net, x, iterations=100)
    start, end = loss(nearest, net, x), loss(learned, net, x)
    if name == "tokens":
        start, end = start.mean(), end.mean()
    assert (end <= start * (1 + 1e-5)).all()
    assert end.sum() < 0.95 * start.sum()


@pytest.mark.parametrize("granularity", ["channel", "tensor", 9])
def test_codes_move_by_one_at_most_and_stay_neighbours_of_the_weight(granularity):
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Conv2d(4, 6, 3)), data(8, 4, 7, 7)
    nearest, _ = quantize_model(net, bits=3, granularity=granularity)
    learned = learn_rounding(nearest, net, x, iterations=100)
    before, after = nearest[0].codes.int(), learned[0].codes.int()
    assert (before != after).any() and (before - after).abs().max() == 1
    scale = nearest[0].scale
    if granularity == 9:
        scale = scale.repeat_interleave(9, 1).view(before.shape)
    off = (learned[0].weight - net[0].weight).abs() / scale
    assert off.max() < 1 + 1e-5
    assert torch.equal(learned[0].scale, nearest[0].scale)


def test_a_weight_beyond_the_grid_stays_at_its_end():
    torch.manual_seed(0)
    net, x = nn.Linear(16, 4), data(50, 16)
    # Half of the weights lie outside of ±0.13.
    narrow = QuantLinear.from_float(net, 3, QParams(0.04, 0, -4, 3))
    learned = learn_rounding(narrow, net, x, iterations=50)
    high, low = net.weight > 3 * 0.04, net.weight < -4 * 0.04
    assert high.any() and (learned.codes[high] == 3).all()
    assert low.any() and (learned.codes[low] == -4).all()


def test_a_layer_that_is_exact_already_stays():
    net = nn.Linear(4, 2)
    net.weight.data = torch.tensor([[1.0, 0, -1, 0.5], [0, 0, 0, 0]])
    exact = QuantLinear.from_float(net, 4, QParams(0.5, 0, -8, 7))
    assert torch.equal(learn_rounding(exact, net, data(9, 4), iterations=20).codes, exact.codes)


def test_inputs_that_are_always_zero_leave_their_weights_at_nearest():
    torch.manual_seed(0)
    net, x = nn.Linear(16, 8), data(50, 16)
    x[:, 8:] = 0
    nearest, _ = quantize_model(net, bits=2)
    learned = learn_rounding(nearest, net, x, iterations=100)
    assert torch.equal(learned.codes[:, 8:], nearest.codes[:, 8:])
    assert not torch.equal(learned.codes[:, :8], nearest.codes[:, :8])


# ---------------------------------------------------------------- the formulas


@given(st.floats(-20, 20))
def test_soft_rounding_is_the_clipped_stretched_sigmoid(v):
    sigmoid = torch.tensor(v, dtype=torch.float64).sigmoid().item()
    wanted = min(max(1.2 * sigmoid - 0.1, 0), 1)
    assert soft_rounding(torch.tensor(v, dtype=torch.float64)).item() == pytest.approx(wanted)


@given(st.floats(0, 1), st.floats(2, 20))
def test_the_pull_is_none_at_the_ends_and_one_in_the_middle(h, beta):
    pull = pull_to_the_ends(torch.tensor([h, 0, 1, 0.5], dtype=torch.float64), beta).item()
    assert pull == pytest.approx(2 - abs(2 * h - 1) ** beta)


# ---------------------------------------------------------------- whole models


@pytest.fixture(scope="module")
def mnist():
    return load_mnist()


def test_three_bits_a_tensor_are_rescued_without_training(mnist):
    model = mnist_cnn()
    nearest, _ = quantize_model(model, bits=3, granularity="tensor")
    learned = learn_rounding(nearest, model, mnist.train_images[:100], iterations=50)
    gain = compare_models(nearest, learned, mnist.test_images, mnist.test_labels)
    assert gain.resolved and gain.difference > 0.05


def test_a_static_model_learns_on_rounded_inputs_and_keeps_its_quantizers(mnist):
    model, images = mnist_cnn(), mnist.train_images[:100]
    static, _ = quantize_model(model, "static", bits=3, calibration_data=images)
    learned = learn_rounding(static, model, images, iterations=50)
    assert loss(learned, model, images).sum() < 0.5 * loss(static, model, images).sum()
    for name, layer in static.named_modules():
        if isinstance(layer, QuantLayer):
            new = learned.get_submodule(name)
            assert torch.equal(new.input_quantizer.scale, layer.input_quantizer.scale)
            assert torch.equal(new.bias, layer.bias)


@pytest.mark.parametrize("method", ["weight_only", "dynamic"])
def test_a_learned_model_is_saved_and_loaded_like_any_other(method, tmp_path, mnist):
    model, images = mnist_mlp(), mnist.train_images[:50]
    nearest, _ = quantize_model(model, method, bits={"fc2": 4, "fc3": 2})
    learned = learn_rounding(nearest, model, images, iterations=20)
    save(learned, tmp_path / "learned.safetensors")
    loaded = load(tmp_path / "learned.safetensors", mnist_mlp(trained=False))
    assert torch.equal(loaded(images), learned(images))
    assert not torch.equal(learned(images), nearest(images))


def test_what_was_passed_in_stays_as_it_was(mnist):
    model, images = mnist_mlp(), mnist.train_images[:50]
    nearest, _ = quantize_model(model, bits={"fc3": 2})
    states = [copy.deepcopy(m.state_dict()) for m in (model, nearest)]
    learn_rounding(nearest, model, images, iterations=20)
    for module, state in zip((model, nearest), states, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


def test_the_same_call_gives_the_same_codes_whatever_the_random_state():
    torch.manual_seed(0)
    net, x = nn.Linear(16, 4), data(50, 16)
    nearest, _ = quantize_model(net, bits=2)
    first = learn_rounding(nearest, net, x, iterations=20).codes
    torch.manual_seed(7)
    state = torch.get_rng_state()
    assert torch.equal(learn_rounding(nearest, net, x, iterations=20).codes, first)
    assert torch.equal(torch.get_rng_state(), state)


def test_learning_again_makes_nothing_worse():
    torch.manual_seed(0)
    net, x = nn.Linear(16, 4), data(50, 16)
    once = learn_rounding(quantize_model(net, bits=2)[0], net, x, iterations=200)
    twice = learn_rounding(once, net, x, iterations=5)
    assert (loss(twice, net, x) <= loss(once, net, x) * (1 + 1e-5)).all()


class Tied(nn.Module):
    """The table of words is the head's weight, too."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.middle = nn.Embedding(12, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 12, bias=False)
        self.head.weight = self.words.weight

    def forward(self, tokens):
        return self.head(self.middle(self.words(tokens)))


def test_tables_and_the_codes_that_they_share_stay():
    net, tokens = Tied(), torch.arange(12).view(3, 4)
    nearest, _ = quantize_model(net, bits=2)
    learned = learn_rounding(nearest, net, tokens, iterations=50)
    assert torch.equal(learned.words.packed, nearest.words.packed)
    assert learned.head.packed is learned.words.packed
    assert not torch.equal(learned.middle.codes, nearest.middle.codes)


def test_a_layer_that_runs_twice_learns_from_both():
    torch.manual_seed(0)
    layer, x = nn.Linear(8, 8), data(40, 8)
    net = nn.Sequential(layer, nn.ReLU(), layer)
    nearest, _ = quantize_model(net, bits=2)
    learned = learn_rounding(nearest, net, x, iterations=100)
    assert learned[0] is learned[2]
    assert loss(learned, net, x).sum() < 0.8 * loss(nearest, net, x).sum()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions(dtype):
    torch.manual_seed(0)
    net, x = nn.Linear(16, 4).to(dtype), data(50, 16).to(dtype)
    nearest, _ = quantize_model(net, bits=2)
    learned = learn_rounding(nearest, net, x, iterations=100)
    assert loss(learned, net, x).sum() < 0.8 * loss(nearest, net, x).sum()


# ---------------------------------------------------------------- bad input


def test_codes_of_other_weights_are_refused():
    quantized, _ = quantize_model(mnist_mlp(trained=False))
    with pytest.raises(ValueError, match="codes of layer 'fc1' are not the float model's weights"):
        learn_rounding(quantized, mnist_mlp(), torch.zeros(1, 784))


@pytest.mark.parametrize("iterations", [0, -1, 2.5, True, None])
def test_iterations_are_a_whole_number_from_one(iterations):
    net = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="iterations must be"):
        learn_rounding(quantize_model(net)[0], net, torch.ones(1, 2), iterations=iterations)


def test_a_float_weight_that_is_nan_is_named():
    net = nn.Sequential(nn.Linear(2, 2))
    quantized, _ = quantize_model(net)
    net[0].weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match="the weight of layer '0': the values must be finite"):
        learn_rounding(quantized, net, torch.ones(1, 2))


def test_no_batches_are_refused():
    net = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="there are no batches"):
        learn_rounding(quantize_model(net)[0], net, [])


def test_it_learns_with_gradients_switched_off_around_it():
    torch.manual_seed(0)
    net, x = nn.Linear(8, 2), torch.randn(20, 8)
    quantized, _ = quantize_model(net, bits=2)
    inside = learn_rounding(quantized, net, x, iterations=20)
    with torch.no_grad():
        outside = learn_rounding(quantized, net, x, iterations=20)
    assert torch.equal(inside.weight, outside.weight)
