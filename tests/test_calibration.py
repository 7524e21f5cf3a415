"""Calibration: every layer's input is seen, whatever made it; nothing stays behind."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from labkit.activations import ActivationQuantizer
from labkit.calibration import arguments_of, calibrate
from labkit.observers import MinMaxObserver


def watching(*names):
    return {
        name: ActivationQuantizer(8, "observe", observer=MinMaxObserver(bits=8)) for name in names
    }


class Functional(nn.Module):
    """Not one activation function or sum is a module."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.three = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x):
        hidden = F.relu(self.one(x))
        mixed = hidden + F.scaled_dot_product_attention(x, x, self.two(input=hidden))
        return self.three(mixed)


def hooks(model):
    return [h for m in model.modules() for h in (*m._forward_hooks, *m._forward_pre_hooks)]


def test_what_functions_attention_and_sums_made_is_seen():
    model, x = Functional(), torch.randn(3, 5, 6)
    frozen = calibrate(model, watching("one", "two", "three"), [x])
    hidden = F.relu(model.one(x))
    mixed = hidden + F.scaled_dot_product_attention(x, x, model.two(hidden))
    for name, seen in {"one": x, "two": hidden, "three": mixed}.items():
        width = max(seen.max().item(), 0) - min(seen.min().item(), 0)
        assert frozen[name].scale.item() == pytest.approx(width / 255, rel=1e-6)


def test_a_layer_that_runs_twice_is_seen_twice():
    layer = nn.Linear(2, 2, bias=False)
    layer.weight.data = 2 * torch.eye(2)
    model = nn.Sequential(layer, layer)
    frozen = calibrate(model, watching("0"), [torch.tensor([[1.0, 1.0]])])
    assert frozen["0"].scale.item() == pytest.approx(2 / 255)


def test_batches_are_taken_one_after_the_other():
    alive = 0
    most = 0

    class Batch(torch.Tensor):
        def __del__(self):
            nonlocal alive
            alive -= 1

    def stream():
        nonlocal alive, most
        for value in range(50):
            alive += 1
            most = max(most, alive)
            yield torch.full((1, 2), float(value)).as_subclass(Batch)

    frozen = calibrate(nn.Sequential(nn.Linear(2, 2)), watching("0"), stream())
    assert frozen["0"].scale.item() == pytest.approx(49 / 255)
    assert most <= 5


@pytest.mark.parametrize(
    "data",
    [
        torch.ones(4, 2),
        [torch.ones(4, 2)],
        [(torch.ones(4, 2),)],
        [[torch.ones(4, 2), torch.zeros(4)]],
        [{"input": torch.ones(4, 2)}],
        DataLoader(TensorDataset(torch.ones(4, 2), torch.zeros(4)), batch_size=3),
    ],
)
def test_inputs_come_in_the_usual_forms(data):
    frozen = calibrate(nn.Sequential(nn.Linear(2, 2)), watching("0"), data)
    assert frozen["0"].scale.item() == pytest.approx(1 / 255)


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x, y):
        return self.layer(x + y)


def test_a_model_of_two_inputs_gets_both():
    frozen = calibrate(TwoInputs(), watching("layer"), [(torch.ones(1, 2), torch.ones(1, 2))])
    assert frozen["layer"].scale.item() == pytest.approx(2 / 255)


def test_arguments_that_can_be_many_are_all_given():
    class Any(nn.Module):
        def forward(self, *inputs):
            return inputs

    assert arguments_of(Any(), (1, 2, 3)) == ((1, 2, 3), {})


@pytest.mark.parametrize("data", [[], iter(()), torch.empty(0, 2)])
def test_no_data_is_refused(data):
    with pytest.raises(ValueError, match=r"no batches|what enters the layer '0': .*empty"):
        calibrate(nn.Sequential(nn.Linear(2, 2)), watching("0"), data)


def test_values_that_are_not_finite_name_the_layer_and_leave_no_hook():
    model = Functional()
    with torch.no_grad():
        model.one.bias[0] = torch.inf
    with pytest.raises(ValueError, match=r"what enters the layer 'two'.*NaN or infinity"):
        calibrate(model, watching("one", "two", "three"), [torch.randn(1, 2, 6)])
    assert not hooks(model)


def test_a_layer_that_nothing_reached_is_named():
    model = Functional()
    model.spare = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="reached the layers spare: exclude"):
        calibrate(model, watching("one", "spare"), [torch.randn(1, 2, 6)])
    assert not hooks(model)


def test_an_error_of_the_model_leaves_no_hook():
    model = Functional()
    with pytest.raises(RuntimeError):
        calibrate(model, watching("one"), [torch.randn(1, 2, 7)])
    assert not hooks(model)
