"""labkit/inputs: one input or several, for training and whatever else has targets beside them."""

import pytest
import torch
from torch import nn

from labkit.hessian import hessian_sensitivity
from labkit.inputs import call, count
from labkit.qat import train_quantized
from labkit.qparams import choose_qparams


class Sum(nn.Module):
    """A layer a part, added: two inputs."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = nn.Linear(4, 2), nn.Linear(3, 2)

    def forward(self, a, b):
        return self.one(a) + self.two(b)


A, B = torch.randn(6, 4), torch.randn(6, 3)
TARGETS = torch.tensor([0, 1, 0, 1, 0, 1])
FORMS = {"tuple": (A, B), "list": [A, B], "by name": {"b": B, "a": A}}


def two_bits(layer):
    return choose_qparams(layer, 2, symmetric=True, signed=True, axis=0)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_calls_the_model_alike(form):
    model = Sum()
    assert torch.equal(call(model, FORMS[form]), model(A, B))
    assert count(FORMS[form]) == 6


def test_one_tensor_is_one_input():
    assert torch.equal(call(nn.Identity(), A), A)
    assert count(A) == 6


def test_an_input_too_many_is_not_left_aside():
    with pytest.raises(TypeError):
        call(nn.Linear(4, 2), (A, B))


@pytest.mark.parametrize("inputs", [(A, B[:5]), ()])
def test_different_numbers_of_samples_are_refused(inputs):
    with pytest.raises(ValueError, match="equally many samples"):
        count(inputs)


@pytest.mark.parametrize("form", FORMS)
def test_training_takes_every_form_and_counts_samples(form):
    # Batches of 4 and of 2: the mean loss of a sample weighs them by that.
    def part(rows):
        given = FORMS[form]
        if isinstance(given, dict):
            return {name: x[rows] for name, x in given.items()}
        return type(given)(x[rows] for x in given)

    batches = [(part(rows), TARGETS[rows]) for rows in (slice(0, 4), slice(4, 6))]
    losses = []
    trained = train_quantized(
        Sum(),
        {"one": two_bits, "two": two_bits},
        batches,
        1,
        after_batch=lambda record: losses.append(record.loss),
    )
    assert trained.history[0].loss == pytest.approx((4 * losses[0] + 2 * losses[1]) / 6)
    assert set(trained.input_grids) == {"one", "two"}


@pytest.mark.parametrize("form", ["tuple", "by name"])
def test_curvature_takes_every_form(form):
    table = hessian_sensitivity(Sum(), [(FORMS[form], TARGETS)], bits=(2, 8), samples=2)
    assert table.layers == ("one", "two")
