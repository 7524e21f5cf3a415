"""Transforms leave the function as it was: checked in float64 and on networks with every shape."""

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from labkit.affine import choose_qparams, fake_quantize
from labkit.quantize import quantize_model
from labkit.transform import ClampChannels, equalize, fold_batch_norm
from labkit.zoo import mnist_cnn


def settled(model, seed=0):
    """Give every batch norm statistics and factors that are not the initial ones; eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for value in (module.running_mean, module.weight, module.bias):
                if value is not None:
                    value.data.normal_(generator=generator)
            if module.running_var is not None:
                module.running_var.uniform_(0.01, 4, generator=generator)
    return model.eval()


def images(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def norms(model):
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def relative_difference(a, b):
    return ((a - b).norm() / b.norm()).item()


PAIRS = {
    "conv1d": (lambda: [nn.Conv1d(4, 6, 3, padding=1), nn.BatchNorm1d(6)], (2, 4, 9)),
    "conv2d": (lambda: [nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6)], (2, 4, 9, 9)),
    "grouped": (lambda: [nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)], (2, 4, 9, 9)),
    "depthwise": (lambda: [nn.Conv2d(4, 8, 3, groups=4), nn.BatchNorm2d(8)], (2, 4, 9, 9)),
    "conv3d": (lambda: [nn.Conv3d(2, 3, 2), nn.BatchNorm3d(3)], (2, 2, 4, 4, 4)),
    "linear": (lambda: [nn.Linear(4, 6), nn.BatchNorm1d(6)], (5, 4)),
    "no affine": (lambda: [nn.Linear(4, 6), nn.BatchNorm1d(6, affine=False)], (5, 4)),
}
each_pair = pytest.mark.parametrize("name", PAIRS)


# ---------------------------------------------------------------- folding batch norm


@each_pair
def test_a_folded_pair_computes_the_same(name):
    build, shape = PAIRS[name]
    model = settled(nn.Sequential(*build(), nn.ReLU())).double()
    folded = fold_batch_norm(model)
    assert isinstance(folded[1], nn.Identity)
    x = images(*shape).double()
    assert torch.allclose(folded(x), model(x), rtol=1e-12, atol=1e-12)


def test_the_same_weights_as_torchs_own_fusion():
    conv, norm = settled(nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)))
    folded, fused = fold_batch_norm(nn.Sequential(conv, norm))[0], fuse_conv_bn_eval(conv, norm)
    assert torch.allclose(folded.weight, fused.weight, rtol=1e-6)
    assert torch.allclose(folded.bias, fused.bias, rtol=1e-5, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    channels=st.integers(1, 5),
    groups=st.integers(1, 3),
    bias=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_any_convolution_is_folded_to_float_precision(channels, groups, bias, seed):
    torch.manual_seed(seed)
    conv = nn.Conv2d(groups * channels, groups * 2, 3, groups=groups, bias=bias)
    model = settled(nn.Sequential(conv, nn.BatchNorm2d(groups * 2)), seed)
    x = images(2, groups * channels, 6, 6, seed=seed)
    assert relative_difference(fold_batch_norm(model)(x), model(x)) < 1e-6


def test_the_zoos_network_loses_its_batch_norms_and_nothing_else():
    model = mnist_cnn()
    folded = fold_batch_norm(model)
    assert len(norms(model)) == 4 and not norms(folded)
    x = images(8, 1, 28, 28)
    assert relative_difference(folded(x), model(x)) < 1e-6


def test_the_model_passed_in_is_untouched():
    model = mnist_cnn()
    before = copy.deepcopy(model.state_dict())
    fold_batch_norm(model)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_model_without_batch_norm_is_copied():
    model = nn.Sequential(nn.Linear(2, 2))
    folded = fold_batch_norm(model)
    assert folded is not model and torch.equal(folded[0].weight, model[0].weight)


class Net(nn.Module):
    """conv → norm and whatever else `forward` of a subclass does with them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)


class ReadTwice(Net):
    def forward(self, x):
        x = self.conv(x)
        return self.norm(x) + x


class ConvTwice(Net):
    def forward(self, x):
        return self.norm(self.conv(self.conv(x)))


class NormTwice(Net):
    def forward(self, x):
        return self.norm(self.norm(self.conv(x)))


class WeightRead(Net):
    def forward(self, x):
        return self.norm(self.conv(x)) + self.conv.weight.mean()


class SomethingBetween(Net):
    def forward(self, x):
        return self.norm(F.relu(self.conv(x)))


class OtherOrder(Net):
    def forward(self, x):
        return self.conv(self.norm(x))


class Untracked(Net):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3, track_running_stats=False)

    def forward(self, x):
        return self.norm(self.conv(x))


class Parametrized(Net):
    def __init__(self):
        super().__init__()
        nn.utils.parametrizations.weight_norm(self.conv)

    def forward(self, x):
        return self.norm(self.conv(x))


class Hooked(Net):
    def __init__(self):
        super().__init__()
        self.conv.register_forward_hook(lambda module, inputs, output: 2 * output)

    def forward(self, x):
        return self.norm(self.conv(x))


class SharedAcrossUntraceable(nn.Module):
    """The same convolution stands in two branches, of which the values choose one."""

    def __init__(self):
        super().__init__()
        conv = nn.Conv2d(3, 3, 3, padding=1)
        self.left = nn.Sequential(conv, nn.BatchNorm2d(3))
        self.right = nn.Sequential(conv, nn.ReLU())

    def forward(self, x):
        return self.left(x) if x.mean() > 0 else self.right(x)


@pytest.mark.parametrize(
    "build",
    [
        ReadTwice,
        ConvTwice,
        NormTwice,
        WeightRead,
        SomethingBetween,
        OtherOrder,
        Untracked,
        Parametrized,
        Hooked,
        SharedAcrossUntraceable,
    ],
)
def test_what_cannot_be_folded_is_left_alone(build):
    model = settled(build())
    folded = fold_batch_norm(model)
    assert len(norms(folded)) == 1
    for sign in (1, -1):
        x = sign * images(2, 3, 5, 5).abs()
        assert torch.equal(folded(x), model(x))


class UntraceableOutside(nn.Module):
    """A check of shapes that fx cannot follow, as learners write it, around a plain body."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())

    def forward(self, x):
        if x.shape[1] != 3:
            raise ValueError("three channels, please")
        return self.body(x)


def test_the_parts_of_an_untraceable_model_are_folded():
    model = settled(UntraceableOutside())
    folded = fold_batch_norm(model)
    assert not norms(folded)
    x = images(2, 3, 5, 5)
    assert relative_difference(folded(x), model(x)) < 1e-6


class DependsOnItsValues(nn.Module):
    """What fx cannot trace, with a layer and a norm of its own inside."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x):
        y = self.norm(self.conv(x))
        return y if y.sum() > 0 else -y


class UntraceableBeside(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.inner = DependsOnItsValues()

    def forward(self, x):
        return self.inner(self.norm(self.conv(x)))


def test_what_stands_beside_an_untraceable_part_is_folded():
    model = settled(UntraceableBeside())
    folded = fold_batch_norm(model)
    assert type(folded.norm) is nn.Identity
    x = images(2, 3, 5, 5)
    assert relative_difference(folded(x), model(x)) < 1e-6


class ReachesInside(UntraceableBeside):
    """Runs the inner layer once more, past the module around it: its norm follows only one run."""

    def forward(self, x):
        y = self.norm(self.conv(x))
        return self.inner(y) + self.inner.conv(y)


def test_a_layer_that_also_runs_apart_from_its_norm_keeps_it():
    model = settled(ReachesInside())
    folded = fold_batch_norm(model)
    assert type(folded.inner.norm) is nn.BatchNorm2d and type(folded.norm) is nn.Identity
    x = images(2, 3, 5, 5)
    assert relative_difference(folded(x), model(x)) < 1e-6


def test_attention_does_not_keep_a_norm_from_folding_before_static_quantization():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv1d(4, 4, 3), nn.BatchNorm1d(4)
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x):
            y = self.norm(self.conv(x)).mT
            return self.attention(y, y, y)[0]

    model = settled(Net())
    quantized, _ = quantize_model(model, "static", calibration_data=[images(2, 4, 9)])
    assert type(quantized.norm) is nn.Identity


class OptionalMask(Net):
    def forward(self, x, mask=None):
        x = self.conv(x)
        return self.norm(x) if mask is None else x * mask


def test_arguments_with_a_default_keep_it():
    assert not norms(fold_batch_norm(settled(OptionalMask())))


def test_training_mode_is_refused():
    with pytest.raises(ValueError, match=r"'bn1' is in training mode.*eval"):
        fold_batch_norm(mnist_cnn().train())


def test_tied_weights_stay_with_their_other_owner():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm, self.second = nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3)
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.second(self.norm(self.first(x)))

    model = settled(Tied())
    folded = fold_batch_norm(model)
    assert not norms(folded)
    x = images(4, 3)
    assert relative_difference(folded(x), model(x)) < 1e-6


# ---------------------------------------------------------------- equalization


def spread(model, seed=0):
    """Scale the output channels of every layer by factors over four decades."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            factors = 10 ** (4 * torch.rand(len(module.weight), generator=generator) - 2)
            module.weight.data.mul_(factors.reshape(-1, *[1] * (module.weight.ndim - 1)))
    return model.eval()


def outgoing(layer):
    return layer.weight.detach().flatten(1).abs().amax(1)


def incoming(layer):
    """Largest magnitude with which a layer reads each input channel; by a plain loop."""
    groups = getattr(layer, "groups", 1)
    largest = []
    for group in layer.weight.detach().chunk(groups):
        largest += [group[:, c].abs().max() for c in range(group.shape[1])]
    return torch.stack(largest)


CHAINS = {
    "linear": (lambda: [nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 4)], (5, 3)),
    "tokens": (lambda: [nn.Linear(3, 6), nn.ReLU6(), nn.Linear(6, 4)], (2, 5, 3)),
    "no activation": (lambda: [nn.Linear(3, 6), nn.Linear(6, 4)], (5, 3)),
    "conv": (lambda: [nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3)], (2, 3, 9, 9)),
    "relu6": (lambda: [nn.Conv2d(3, 6, 3), nn.ReLU6(), nn.Conv2d(6, 4, 3)], (2, 3, 9, 9)),
    "conv1d": (lambda: [nn.Conv1d(3, 6, 3), nn.ReLU6(), nn.Conv1d(6, 4, 3)], (2, 3, 9)),
    "unbatched": (lambda: [nn.Conv2d(3, 6, 3), nn.ReLU6(), nn.Conv2d(6, 4, 3)], (3, 9, 9)),
    "grouped": (
        lambda: [nn.Conv2d(4, 6, 1, groups=2), nn.ReLU6(), nn.Conv2d(6, 9, 1, groups=3)],
        (2, 4, 5, 5),
    ),
    "into depthwise": (
        lambda: [nn.Conv2d(3, 6, 1), nn.ReLU6(), nn.Conv2d(6, 12, 3, groups=6)],
        (2, 3, 5, 5),
    ),
    "pooled and padded": (
        lambda: [
            nn.Conv2d(3, 6, 1),
            nn.LeakyReLU(),
            nn.MaxPool2d(2),
            nn.ZeroPad2d(1),
            nn.Conv2d(6, 4, 3),
        ],
        (2, 3, 6, 6),
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_an_equalized_chain_computes_the_same(name):
    build, shape = CHAINS[name]
    torch.manual_seed(0)
    model = spread(nn.Sequential(*build())).double()
    x = 20 * images(*shape).double()
    assert torch.allclose(equalize(model)(x), model(x), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", CHAINS)
def test_both_layers_get_the_geometric_mean_of_their_ranges(name):
    build, _ = CHAINS[name]
    torch.manual_seed(0)
    model = spread(nn.Sequential(*build()))
    equal = equalize(model)
    wanted = (outgoing(model[0]) * incoming(model[-1])).sqrt()
    assert torch.allclose(outgoing(equal[0]), wanted, rtol=1e-5)
    assert torch.allclose(incoming(equal[-1]), wanted, rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(1, 6), min_size=3, max_size=5), seed=st.integers(0, 2**16))
def test_any_chain_keeps_its_function_to_float_precision(sizes, seed):
    torch.manual_seed(seed)
    layers = []
    for wide, narrow in itertools.pairwise(sizes):
        layers += [nn.Linear(wide, narrow), nn.ReLU()]
    model = spread(nn.Sequential(*layers[:-1]), seed)
    x = images(16, sizes[0], seed=seed)
    y, wanted = equalize(model)(x), model(x)
    assert (y - wanted).abs().max() <= 1e-4 * wanted.abs().max()


def depthwise_block(relu=nn.ReLU6):
    torch.manual_seed(0)
    return spread(
        nn.Sequential(
            *(nn.Conv2d(4, 12, 1), relu()),
            *(nn.Conv2d(12, 12, 3, padding=1, groups=12), relu()),
            nn.Conv2d(12, 4, 1),
        )
    )


def test_a_depthwise_chain_is_balanced_from_end_to_end():
    model = depthwise_block()
    equal = equalize(model, tolerance=1e-9)
    wide, depthwise, narrow = equal[0], equal[2], equal[4]
    assert torch.allclose(outgoing(wide), incoming(depthwise), rtol=1e-4)
    assert torch.allclose(outgoing(depthwise), incoming(narrow), rtol=1e-4)
    # Three ranges, one channel: each becomes the cube root of their product (Nagel et al., eq. 20).
    product = outgoing(model[0]) * outgoing(model[2]) * incoming(model[4])
    assert torch.allclose(outgoing(wide), product ** (1 / 3), rtol=1e-4)
    x = images(2, 4, 6, 6)
    assert relative_difference(equal(x), model(x)) < 1e-5


def test_a_relu6_clips_each_channel_where_it_did():
    model = depthwise_block()
    equal = equalize(model)
    assert isinstance(equal[1], ClampChannels)
    factor = outgoing(model[0]) / outgoing(equal[0])
    assert torch.allclose(equal[1].limit.flatten(), 6 / factor, rtol=1e-5)
    assert isinstance(equalize(depthwise_block(nn.ReLU))[1], nn.ReLU)


@pytest.mark.parametrize("where", ["first", "second"])
def test_dead_channels_are_left_alone(where):
    model = depthwise_block()
    if where == "first":
        model[0].weight.data[3] = 0
    else:
        model[2].weight.data[3] = 1e-30
    equal = equalize(model, tolerance=1e-9)
    assert torch.equal(equal[0].weight[3], model[0].weight[3])
    assert torch.equal(equal[0].bias[3], model[0].bias[3])
    others = torch.arange(12) != 3
    assert not torch.isclose(equal[0].bias[others], model[0].bias[others]).any()
    x = images(2, 4, 6, 6)
    assert relative_difference(equal(x), model(x)) < 1e-5


def test_equalizing_twice_changes_nothing():
    once = equalize(depthwise_block(nn.ReLU), tolerance=1e-9)
    twice = equalize(once)
    for a, b in zip(once.parameters(), twice.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5)


def test_it_is_worth_it_per_tensor():
    model = depthwise_block()
    x = images(2, 4, 6, 6)

    def error(net):
        net = copy.deepcopy(net)
        for module in net:
            if isinstance(module, nn.Conv2d):
                weight = module.weight.detach()
                module.weight.data = fake_quantize(weight, choose_qparams(weight, symmetric=True))
        return relative_difference(net(x), model(x))

    assert error(equalize(model)) < error(model) / 5


class Residual(nn.Module):
    """The first layer's output is read twice."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        x = torch.relu(self.first(x))
        return x + self.second(x)


class Functional(Residual):
    def forward(self, x):
        return self.second(F.relu(self.first(x)))


class Sigmoid(Residual):
    def forward(self, x):
        return self.second(torch.sigmoid(self.first(x)))


class OtherAxis(Residual):
    """A linear layer after a convolution works along the width, not along the channels."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


@pytest.mark.parametrize(
    ("build", "shape", "changes"),
    [
        (Functional, (3, 4), True),
        (Residual, (3, 4), False),
        (Sigmoid, (3, 4), False),
        (OtherAxis, (2, 4, 4, 4), False),
    ],
)
def test_scales_move_only_where_the_function_allows_it(build, shape, changes):
    torch.manual_seed(0)
    model = spread(build())
    equal = equalize(model)
    assert torch.equal(equal.first.weight, model.first.weight) != changes
    x = images(*shape)
    assert relative_difference(equal(x), model(x)) < 1e-5


def test_the_zoos_network_is_folded_and_equalized_untouched():
    model = mnist_cnn()
    before = copy.deepcopy(model.state_dict())
    equal = equalize(model)
    assert not norms(equal)
    assert torch.allclose(outgoing(equal.depthwise), incoming(equal.pointwise), rtol=1e-2)
    x = images(8, 1, 28, 28)
    assert relative_difference(equal(x), model(x)) < 1e-5
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
