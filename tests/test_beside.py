"""Two models on the same data: layers in their order, and a clear word where they do not fit."""

import copy

import pytest
import torch
from torch import nn

from labkit.beside import Beside
from labkit.quantize import quantize_model
from labkit.zoo import mnist_cnn


class Backwards(nn.Module):
    """Names its layers in another order than it runs them; one runs twice."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.last, self.twice, self.first = (nn.Linear(4, 4) for _ in range(3))

    def forward(self, x):
        return self.last(self.twice(torch.relu(self.twice(self.first(x)))))


def data(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_layers_come_in_the_order_in_which_they_compute():
    net = Backwards()
    assert list(Beside(quantize_model(net)[0], net, data(3, 4)).layers) == [
        "first",
        "twice",
        "last",
    ]


def test_a_visit_shows_what_enters_quantized_and_what_the_float_model_gives():
    net, x = Backwards(), data(3, 4)
    quantized, _ = quantize_model(net, bits=2)
    visits = list(Beside(quantized, net, [x]).visits("twice"))
    entering = quantized.first(x)
    float_first = net.twice(net.first(x))
    assert torch.equal(visits[0][0], entering)
    assert torch.equal(visits[0][1], float_first)
    assert torch.equal(visits[1][0], torch.relu(quantized.twice(entering)))
    assert torch.equal(visits[1][1], net.twice(torch.relu(float_first)))
    assert len(visits) == 2


def test_later_layers_see_a_change_of_earlier_ones():
    net, x = Backwards(), data(3, 4)
    beside = Beside(quantize_model(net)[0], net, [x])
    beside.layers["first"][1].bias.data += 1
    entering = next(beside.visits("twice"))[0]
    assert torch.equal(entering, beside.quantized.first(x))


def test_both_models_stay_as_they_were():
    net, x = Backwards().train(), data(3, 4)
    quantized, _ = quantize_model(net, bits=2)
    before = copy.deepcopy((net.state_dict(), quantized.state_dict()))
    beside = Beside(quantized, net, [x])
    list(beside.visits("last"))
    beside.layers["first"][1].bias.data += 1
    for model, state in zip((net, quantized), before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert net.training


def test_a_folded_model_is_compared_with_the_folded_float_model():
    model, x = mnist_cnn(), data(4, 1, 28, 28)
    static, _ = quantize_model(model, "static", calibration_data=[x])
    _, wanted = next(Beside(static, model, [x]).visits("conv1"))
    with torch.no_grad():
        assert torch.allclose(wanted, model.bn1(model.conv1(x)), atol=1e-5)


def test_projections_of_attention_are_layers_too():
    torch.manual_seed(0)
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1, enable_nested_tensor=False
    ).eval()
    names = list(Beside(quantize_model(encoder)[0], encoder, data(2, 3, 8)).layers)
    parts = [f"self_attn.{part}_proj" for part in ("q", "k", "v", "out")] + ["linear1", "linear2"]
    assert names == [f"layers.0.{part}" for part in parts]


def test_attention_that_stayed_float_keeps_the_layers_around_it_in_sight():
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1, enable_nested_tensor=False
    ).eval()
    quantized, _ = quantize_model(encoder, bits={"layers.0.linear1": 4})
    assert len(list(Beside(quantized, encoder, data(2, 3, 8)).visits("layers.0.linear1"))) == 1


def test_embeddings_have_nothing_to_correct():
    net = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 2))
    assert list(Beside(quantize_model(net)[0], net, torch.tensor([[1, 2]])).layers) == ["1"]


def test_a_generator_serves_every_layer():
    net = Backwards()
    beside = Beside(quantize_model(net)[0], net, (data(3, 4, seed=s) for s in range(2)))
    assert [len(list(beside.visits(name))) for name in beside.layers] == [2, 4, 2]


def test_labels_of_a_loader_are_left_aside():
    net = Backwards()
    batches = [(data(3, 4), torch.zeros(3))]
    assert len(list(Beside(quantize_model(net)[0], net, batches).visits("first"))) == 1


# ---------------------------------------------------------------- what does not fit


def broken(change):
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    quantized, _ = quantize_model(net)
    return change(net, quantized)


class Moody(nn.Module):
    """Runs its layer once or twice, as the sign of the input's sum says."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(self.layer(x)) if x.sum() > 0 else self.layer(x)


class Aside(nn.Module):
    """Holds a layer that it never runs."""

    def __init__(self):
        super().__init__()
        self.used, self.idle = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.used(x)


def with_nan(net):
    net[0].weight.data[0, 0] = torch.nan
    return net


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda net, q: (net, net, data(1, 4)), "has no quantized layers; call quantize_model"),
        (lambda net, q: (q, q, data(1, 4)), "'0', the float model a QuantLinear"),
        (lambda net, q: (q, net[:1], data(1, 4)), "at '2', the float model nothing"),
        (
            lambda net, q: (q, nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)), [0]),
            r"layer '0' has the weight_shape \(4, 4\), in the float model \(5, 4\)",
        ),
        (lambda net, q: (q, net, []), "there are no batches"),
        (lambda net, q: (q, net, iter(())), "not been used up"),
        (lambda net, q: (q, net, 3), "batches must be inputs, e.g. a list of tensors; got int"),
        (lambda net, q: (None, net, data(1, 4)), "quantized must be a torch.nn.Module, got None"),
        (lambda net, q: (q, "net", data(1, 4)), "model must be a torch.nn.Module, got str"),
        (
            lambda net, q: (q, net, torch.tensor([[1.0, torch.nan, 0, 0]])),
            "what enters the layer '0': the values must be finite",
        ),
        (
            lambda net, q: (q, with_nan(net), data(1, 4)),
            "what the model gives at the layer '0': the values must be finite",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        beside = Beside(*broken(change))
        for name in beside.layers:
            list(beside.visits(name))


def test_another_geometry_is_named():
    quantized, _ = quantize_model(nn.Sequential(nn.Conv2d(2, 2, 3)))
    with pytest.raises(ValueError, match=r"has the stride \(1, 1\), in the float model \(2, 2\)"):
        Beside(quantized, nn.Sequential(nn.Conv2d(2, 2, 3, stride=2)), data(1, 2, 5, 5))


def test_other_groups_are_named():
    quantized, _ = quantize_model(nn.Sequential(nn.Conv2d(2, 4, 3, groups=2)))
    with pytest.raises(ValueError, match="has the in_channels 2, in the float model 1"):
        Beside(quantized, nn.Sequential(nn.Conv2d(1, 4, 3)), data(1, 1, 5, 5))


def test_a_missing_attention_is_named():
    attention = nn.MultiheadAttention(8, 2)
    quantized, _ = quantize_model(nn.ModuleDict({"a": attention}))
    with pytest.raises(ValueError, match="the float model has no MultiheadAttention 'a'"):
        Beside(quantized, nn.ModuleDict({"a": nn.Linear(8, 8)}), data(1, 8))


def test_a_layer_that_is_never_reached_is_named():
    net = Aside()
    with pytest.raises(ValueError, match="no input reached the layers idle"):
        Beside(quantize_model(net)[0], net, data(1, 4))


def test_batches_that_take_different_ways_are_refused():
    net = Moody()
    beside = Beside(quantize_model(net)[0], net, [torch.ones(1, 4), -torch.ones(1, 4)])
    with pytest.raises(ValueError, match="passed the layer 'layer' 1 times, the first one 2 times"):
        list(beside.visits("layer"))
