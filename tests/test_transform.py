"""Transforms leave the function as it was: checked in float64 and on networks with every shape."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from labkit.transform import fold_batch_norm
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
