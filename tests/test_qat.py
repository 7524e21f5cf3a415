"""labkit/qat.py: what is trained is what is stored, and the gradient passes where it should."""

import copy

import pytest
import torch
from torch import nn

from labkit.affine import fake_quantize, quantize
from labkit.qat import train_quantized
from labkit.qparams import choose_qparams


def chooser(bits):
    return lambda weight: choose_qparams(weight, bits, symmetric=True, signed=True, axis=0)


def batches(count=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 16, 4, generator=generator)
    return [(part, part[:, :3].argmax(1)) for part in x]


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def test_the_weight_that_is_read_while_training_is_on_the_grid():
    model, seen = net(), []

    def loss(outputs, targets):
        weight = model[0].weight.detach()
        seen.append(torch.equal(weight, fake_quantize(weight, chooser(3)(weight))))
        return nn.functional.cross_entropy(outputs, targets)

    train_quantized(model, {"0": chooser(3)}, batches(), 1, loss=loss)
    assert seen == [True] * 8


def test_the_float_weight_is_back_afterwards_and_has_moved():
    model = net()
    before = copy.deepcopy(model)
    train_quantized(model, {"0": chooser(2), "2": chooser(2)}, batches(), 2)
    assert [type(m) for m in model.modules()] == [type(m) for m in before.modules()]
    assert model.state_dict().keys() == before.state_dict().keys()
    assert len(model[0].weight.unique()) > 4, "still a float weight"
    assert not torch.equal(model[0].weight, before[0].weight)


def test_one_step_equals_the_straight_through_gradient_worked_out_by_hand():
    model = nn.Sequential(nn.Linear(4, 3, bias=False))
    weight = model[0].weight.detach().clone()
    (inputs, targets), *_ = batches()
    on_grid = fake_quantize(weight, chooser(3)(weight)).requires_grad_()
    nn.functional.cross_entropy(inputs @ on_grid.T, targets).backward()
    train_quantized(
        model, {"0": chooser(3)}, [(inputs, targets)], 1, activation_bits=None, learning_rate=0.01
    )
    # The first step of Adam is the learning rate in the direction of the gradient; no code of a
    # symmetric grid that covers the weight lies outside, so that every gradient passes.
    expected = weight - 0.01 * on_grid.grad / (on_grid.grad.abs() + 1e-8)
    torch.testing.assert_close(model[0].weight.detach(), expected)


def test_quantizing_the_result_gives_the_model_that_was_trained():
    model = net()
    trained = train_quantized(model, {"0": chooser(2), "2": chooser(2)}, batches(), 3)
    grids = trained.input_grids
    (x, _), *_ = batches(1, seed=7)
    hidden = fake_quantize(x, grids["0"])
    first, second = (fake_quantize(m.weight, chooser(2)(m.weight)) for m in (model[0], model[2]))
    hidden = torch.relu(hidden @ first.T + model[0].bias)
    expected = fake_quantize(hidden, grids["2"]) @ second.T + model[2].bias
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight.copy_(fake_quantize(layer.weight, chooser(2)(layer.weight)))
    assert quantize(x, grids["0"]).unique().numel() > 4
    stored = model[2](fake_quantize(torch.relu(model[0](fake_quantize(x, grids["0"]))), grids["2"]))
    torch.testing.assert_close(stored, expected)


def test_it_learns_what_rounding_alone_destroys():
    def right(model):
        x = torch.cat([part for part, _ in batches(32, seed=3)])
        return (model(x).argmax(1) == x[:, :3].argmax(1)).double().mean().item()

    def rounded(model):
        model = copy.deepcopy(model)
        with torch.no_grad():
            for layer in (model[0], model[2]):
                layer.weight.copy_(fake_quantize(layer.weight, chooser(2)(layer.weight)))
        return right(model)

    model = net()
    everything = {"0": chooser(2), "2": chooser(2)}
    train_quantized(model, everything, batches(64), 24, activation_bits=None, learning_rate=1e-2)
    trained_in_float = net()
    optimizer = torch.optim.Adam(trained_in_float.parameters(), lr=1e-2)
    for _ in range(8):
        for x, y in batches(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(trained_in_float(x), y).backward()
            optimizer.step()
    assert rounded(model) > rounded(trained_in_float)


def test_the_row_numbers_of_an_embedding_are_not_rounded():
    model = nn.Sequential(nn.Embedding(300, 4), nn.Flatten(), nn.Linear(4, 2))
    data = [(torch.tensor([[299], [1]]), torch.tensor([0, 1]))]
    trained = train_quantized(model, {"0": chooser(4), "2": chooser(4)}, data, 1)
    assert list(trained.input_grids) == ["2"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_epochs": 0}, "at least 1 epoch"),
        ({"learning_rate": 0.0}, "learning rate above 0"),
        ({"choose": {"fc9": chooser(2)}}, "no layer fc9"),
        ({"train_loader": []}, "no batches"),
        ({"loss": lambda outputs, targets: outputs.sum() * torch.inf}, "learning rate below"),
    ],
)
def test_what_cannot_work_is_refused_and_leaves_no_hook(options, words):
    model = net()
    usual = {"choose": {"0": chooser(2)}, "train_loader": batches(), "num_epochs": 2}
    with pytest.raises(ValueError, match=words):
        train_quantized(model, **(usual | options))
    assert not model[0]._forward_pre_hooks
    assert type(model[0]) is nn.Linear


def test_a_layer_that_no_input_reaches_is_named():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x):
            return self.used(x)

    with pytest.raises(ValueError, match="idle"):
        train_quantized(Net(), {"used": chooser(2), "idle": chooser(2)}, batches(), 1)


class CalledByName(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(input=x)


def test_a_layer_that_is_called_by_name_is_watched_too():
    data = [(torch.linspace(0, 3, 8).reshape(2, 4), torch.tensor([0, 1]))]
    trained = train_quantized(CalledByName(), {"fc": chooser(4)}, data, 1)
    assert trained.input_grids["fc"].scale.item() == pytest.approx(3 / 255)


def test_what_is_validated_does_not_move_the_ranges_that_were_trained_for():
    def inputs_after(validate):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
        batches = [(torch.rand(8, 4), torch.randint(0, 2, (8,))) for _ in range(3)]
        choose = dict.fromkeys(("0", "2"), lambda w: choose_qparams(w, 4))
        return train_quantized(net, choose, batches, 2, validate=validate).input_grids

    plain = inputs_after(None)
    watched = inputs_after(lambda model: model(100 * torch.ones(5, 4)).sum().item())
    assert all(torch.equal(plain[name].scale, watched[name].scale) for name in plain)
