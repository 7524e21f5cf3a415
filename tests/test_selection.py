"""Which layers are quantized: what is found, what is left out, what a wrong name is told."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, weight_norm

from labkit.selection import quantizable_layers, select_bits
from labkit.zoo import MnistCNN


class Special(nn.Linear):
    pass


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(5, 4)
        self.body = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
        self.attention = nn.MultiheadAttention(4, 2)
        self.special = Special(4, 4)
        self.again = self.body[0]


LAYERS = ["table", "body.0", "body.2"] + [
    f"attention.{name}" for name in ("q_proj", "k_proj", "v_proj", "out_proj")
]


def test_layers_are_listed_in_the_models_order_and_shared_ones_once():
    assert list(quantizable_layers(Net())) == LAYERS


def test_a_model_may_be_a_layer_itself():
    assert list(quantizable_layers(nn.Linear(2, 2))) == [""]
    assert next(iter(quantizable_layers(nn.MultiheadAttention(4, 2)))) == "q_proj"


@pytest.mark.parametrize(
    "layer",
    [
        nn.ConvTranspose2d(1, 1, 1),
        nn.Conv3d(1, 1, 1),
        nn.LSTM(2, 2),
        nn.EmbeddingBag(2, 2),
        nn.Embedding(2, 2, max_norm=1.0),
        nn.Bilinear(2, 2, 2),
        Special(2, 2),
        parametrizations.weight_norm(nn.Linear(2, 2)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_what_computes_something_else_is_left_out(layer):
    assert not quantizable_layers(nn.Sequential(layer))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_weight_that_a_hook_computes_is_left_out():
    assert not quantizable_layers(nn.Sequential(weight_norm(nn.Linear(2, 2))))


def test_a_parametrization_that_is_removed_counts_again():
    layer = parametrizations.orthogonal(nn.Linear(2, 2))
    assert not quantizable_layers(layer)
    parametrize.remove_parametrizations(layer, "weight")
    assert quantizable_layers(layer)


def test_a_number_holds_for_every_layer():
    assert select_bits(Net(), 4) == dict.fromkeys(LAYERS, 4)


def test_a_dict_names_the_layers():
    assert select_bits(Net(), {"body.2": 3, "table": 8}) == {"table": 8, "body.2": 3}


def test_layers_and_whole_modules_are_excluded():
    assert list(select_bits(Net(), 4, ["body", "attention.q_proj", "table"])) == LAYERS[4:]
    assert list(select_bits(Net(), 4, "attention")) == LAYERS[:3]


@pytest.mark.parametrize(
    ("bits", "exclude", "says"),
    [
        (1, (), "from 2 to 8, got 1"),
        (9, (), "from 2 to 8, got 9"),
        (4.0, (), "got 4.0"),
        ({"body.0": 4, "body.2": 16}, (), "layer 'body.2': bits .* got 16"),
        ({"bod.0": 4}, (), "'bod.0'; did you mean body.0"),
        ({"zzz": 4}, (), "no quantizable layer 'zzz'; it has table, body.0, "),
        ({"body.1": 4}, (), "'body.1' is a ReLU, which cannot be quantized"),
        ({"special": 4}, (), "'special' is a Special"),
        ({"again": 4}, (), "same layer as 'body.0'"),
        ({"body": 4}, (), "'body' is a Sequential"),
        ({3: 4}, (), "no quantizable layer 3"),
        (4, ["head"], "'head'"),
        (4, ["tabel"], "did you mean table"),
        ({}, (), "nothing is left to quantize"),
        (4, LAYERS, "nothing is left to quantize in Net"),
    ],
)
def test_a_wrong_choice_says_what_would_work(bits, exclude, says):
    with pytest.raises(ValueError, match=says):
        select_bits(Net(), bits, exclude)


def test_a_model_without_any_layer():
    with pytest.raises(ValueError, match="Linear, Conv1d, Conv2d, Embedding"):
        select_bits(nn.ReLU(), 8)


def test_the_listing_reaches_the_models_own_weights():
    model = Net()
    with torch.no_grad():
        quantizable_layers(model)["attention.k_proj"].weight.zero_()
    assert not model.attention.in_proj_weight[4:8].any() and model.attention.in_proj_weight.any()


def test_the_zoos_network():
    assert list(quantizable_layers(MnistCNN())) == [
        "conv1",
        "depthwise",
        "pointwise",
        "conv4",
        "fc",
    ]
