"""labkit/qat.py: what is trained is what is stored, and the gradient passes where it should."""

import copy
import math
from functools import partial
from typing import ClassVar

import pytest
import torch
from torch import nn

from labkit.affine import fake_quantize, quantize
from labkit.data import load_mnist
from labkit.evaluate import accuracy
from labkit.layers import rows
from labkit.qat import STEP_RULES, train_quantized
from labkit.qat_grids import LearnedGrid
from labkit.qparams import choose_qparams
from labkit.quantize import quantize_model
from labkit.zoo import mnist_cnn, mnist_mlp


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
        ({"step_rule": "lsq"}, "one of range, learned"),
        ({"activation_bits": 1}, "from 2 to 8"),
        ({"max_norm": 0.0}, "max_norm must be above 0"),
        ({"patience": 2}, "validate function"),
        ({"patience": 0, "validate": lambda model: 0.0}, "at least 1"),
        ({"validate": lambda model: None}, "Accuracy or a number"),
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


# ---------------------------------------------------------------- stored as trained


@pytest.mark.parametrize("activation_bits", [8, 2, None])
@pytest.mark.parametrize("granularity", ["tensor", "channel", 2])
@pytest.mark.parametrize("step_rule", STEP_RULES)
def test_the_converted_model_is_the_trained_one(step_rule, granularity, activation_bits):
    (x, _), *_ = batches(1, seed=7)
    seen = {}

    def look(model):
        """At the model in training, with its fake-quantized weights."""
        seen["scores"] = model(x).detach()
        seen["weights"] = {n: model.get_submodule(n).weight.detach().clone() for n in ("0", "2")}
        return 0.0

    quantized, _ = quantize_model(
        net(),
        "qat",
        bits={"0": 2, "2": 3},
        activation_bits=activation_bits,
        granularity=granularity,
        train_loader=batches(),
        num_epochs=3,
        training={"step_rule": step_rule, "validate": look, "learning_rate": 1e-2},
    )
    assert torch.equal(quantized(x), seen["scores"])
    for name, weight in seen["weights"].items():
        layer = quantized.get_submodule(name)
        assert torch.equal(layer.weight, weight)
        grid = layer.qparams
        assert torch.equal(layer.codes, quantize(rows(weight, grid), grid).view(weight.shape))


@pytest.mark.parametrize("step_rule", STEP_RULES)
def test_a_convolutional_network_is_converted_as_trained_with_batch_norm_folded(step_rule):
    digits, seen = load_mnist(), []
    images, labels = digits.train_images[:64], digits.train_labels[:64]
    quantized, _ = quantize_model(
        mnist_cnn(),
        "qat",
        bits=2,
        train_loader=[(images, labels)],
        num_epochs=2,
        training={"step_rule": step_rule, "validate": lambda m: seen.append(m(images)) or 0.0},
    )
    assert torch.equal(quantized(images), seen[-1])


@pytest.mark.parametrize("step_rule", STEP_RULES)
def test_layers_that_share_a_weight_share_its_grid(step_rule):
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    seen, data = [], [(x, y) for x, y in batches()]
    quantized, _ = quantize_model(
        model,
        "qat",
        bits=2,
        train_loader=data,
        num_epochs=2,
        training={"step_rule": step_rule, "validate": lambda m: seen.append(m(data[0][0])) or 0.0},
    )
    assert quantized[0].packed is quantized[2].packed
    assert torch.equal(quantized(data[0][0]), seen[-1])


# ---------------------------------------------------------------- learned steps


def test_learned_steps_move_and_stay_positive_at_any_rate():
    model = net()
    first = LearnedGrid()
    first.start(model[0].weight.detach(), chooser(2)(model[0].weight.detach()))
    before = first.qparams().scale
    trained = train_quantized(
        model, {"0": chooser(2)}, batches(), 4, step_rule="learned", learning_rate=1.0
    )
    after = trained.weight_grids["0"].scale
    assert after.shape == before.shape == (8, 1)
    assert (after > 0).all() and not torch.allclose(after, before)


def test_the_step_of_what_the_model_is_given_stays_and_those_inside_learn():
    def steps(rate):
        trained = train_quantized(
            net(),
            {"0": chooser(2), "2": chooser(2)},
            batches(),
            2,
            step_rule="learned",
            activation_bits=4,
            learning_rate=rate,
        )
        return [trained.input_grids[name].scale.item() for name in ("0", "2")]

    (given, inside), (given_later, inside_later) = steps(1e-12), steps(0.1)
    assert given == given_later
    assert inside_later != pytest.approx(inside, rel=1e-3)


def test_after_a_relu_the_learned_grid_of_the_input_starts_at_zero():
    model = net()
    trained = train_quantized(
        model, {"0": chooser(2), "2": chooser(2)}, batches(), 1, step_rule="learned"
    )
    assert trained.input_grids["2"].zero_point == 0
    # Inputs of both signs need a zero point.
    assert trained.input_grids["0"].zero_point > 0


# ---------------------------------------------------------------- batch norm, clipping, the rate


def test_a_batch_norm_that_is_still_there_keeps_its_statistics():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    before = copy.deepcopy(model[1])
    train_quantized(model, {"0": chooser(2)}, batches(), 2)
    assert torch.equal(model[1].running_mean, before.running_mean)
    assert torch.equal(model[1].running_var, before.running_var)
    assert not torch.equal(model[1].weight, before.weight), "what is learned of it still learns"


def test_gradients_are_clipped_to_the_norm():
    norms = []

    def run(max_norm):
        model = net()

        def loss(outputs, targets):
            return 100 * nn.functional.cross_entropy(outputs, targets)

        def look(record):
            grads = [p.grad for p in model.parameters() if p.grad is not None]
            norms.append(torch.cat([g.flatten() for g in grads]).norm().item())

        train_quantized(
            model, {"0": chooser(2)}, batches(), 1, loss=loss, max_norm=max_norm, after_batch=look
        )
        return norms.pop()

    assert run(None) > 1.0
    assert run(0.5) <= 0.5 * (1 + 1e-4)


def test_the_rate_falls_along_half_a_cosine():
    class Rates(torch.optim.Adam):
        seen: ClassVar = []

        def step(self, *arguments):
            self.seen.append(self.param_groups[0]["lr"])
            return super().step(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "Adam", Rates)
        train_quantized(net(), {}, batches(4), 2, learning_rate=0.1)
    expected = [0.05 * (1 + math.cos(math.pi * step / 8)) for step in range(8)]
    assert Rates.seen == pytest.approx(expected)


# ---------------------------------------------------------------- watching, stopping, the best


def test_it_tells_how_it_goes():
    seen, epochs = [], []
    trained = train_quantized(
        net(),
        {"0": chooser(2)},
        batches(4),
        2,
        validate=lambda model: 0.5,
        after_batch=seen.append,
        after_epoch=epochs.append,
    )
    assert [(r.epoch, r.batch, r.batches) for r in seen] == [
        (e, b, 4) for e in (1, 2) for b in (1, 2, 3, 4)
    ]
    # Batches of one size: the mean loss of a sample is the mean of the batches.
    means = [sum(r.loss for r in seen if r.epoch == e) / 4 for e in (1, 2)]
    assert [r.loss for r in trained.history] == pytest.approx(means)
    assert tuple(epochs) == trained.history
    assert [r.quality for r in trained.history] == [0.5, 0.5]
    assert trained.ended == "finished"


def test_a_loader_without_a_length_will_do():
    class Endless:
        def __iter__(self):
            return iter(batches(3))

    seen = []
    train_quantized(net(), {"0": chooser(2)}, Endless(), 1, after_batch=seen.append)
    assert [r.batches for r in seen] == [None] * 3


@pytest.mark.parametrize("step_rule", STEP_RULES)
def test_stopping_leaves_a_model_that_works(step_rule):
    count = iter(range(100))
    model = net()
    trained = train_quantized(
        model,
        {"0": chooser(2), "2": chooser(2)},
        batches(8),
        5,
        step_rule=step_rule,
        stop=lambda: next(count) == 10,
    )
    assert trained.ended == "stopped" and len(trained.history) == 1
    assert type(model[0]) is nn.Linear and not model.training
    assert set(trained.weight_grids) == set(trained.input_grids) == {"0", "2"}
    (x, _), *_ = batches(1)
    assert model(fake_quantize(x, trained.input_grids["0"])).isfinite().all()


def test_the_best_state_is_restored():
    qualities = iter([0.3, 0.9, 0.5, 0.6, 0.7])
    states = []

    def validate(model):
        states.append(model[0].weight.detach().clone())
        return next(qualities)

    model = net()
    trained = train_quantized(
        model, {"0": chooser(2)}, batches(), 5, validate=validate, patience=2, learning_rate=1e-2
    )
    assert trained.ended == "early stop"
    assert [r.quality for r in trained.history] == [0.3, 0.9, 0.5, 0.6]
    on_grid = fake_quantize(model[0].weight.detach(), trained.weight_grids["0"])
    assert torch.equal(on_grid, states[1]) and not torch.equal(on_grid, states[3])


def test_the_mode_of_evaluation_is_that_of_the_stored_model():
    modes = []
    train_quantized(
        net(), {"0": chooser(2)}, batches(), 2, validate=lambda m: modes.append(m.training) or 0.0
    )
    assert modes == [False, False]


def test_looking_at_the_model_between_batches_does_not_move_its_grids():
    far = 1000 * torch.ones(2, 4)

    def run(look):
        model = net()

        def after_batch(record):
            model.eval()
            look(model)
            model.train()

        trained = train_quantized(model, {"0": chooser(2)}, batches(), 1, after_batch=after_batch)
        return trained.input_grids["0"].scale

    assert torch.equal(run(lambda model: None), run(lambda model: model(far)))


# ---------------------------------------------------------------- what it brings, on digits


@pytest.mark.parametrize("step_rule", STEP_RULES)
def test_two_bits_that_rounding_destroys_are_learned(step_rule):
    digits = load_mnist()
    data = list(zip(digits.train_images.split(50), digits.train_labels.split(50), strict=True))
    measure = partial(accuracy, images=digits.test_images, labels=digits.test_labels)
    _, rounded = quantize_model(mnist_mlp(), bits=2, granularity="tensor", evaluate=measure)
    _, report = quantize_model(
        mnist_mlp(),
        "qat",
        bits=2,
        granularity="tensor",
        train_loader=data,
        num_epochs=2,
        evaluate=measure,
        training={"step_rule": step_rule},
    )
    assert rounded.quality.high < 0.3
    assert report.quality.low > 0.8
    # Beside it: float, trained as long.
    assert report.control_quality.value > 0.9


class Overflowing(nn.Module):
    """Finite numbers come in, infinite ones go out."""

    def forward(self, x):
        return x * math.inf


def refusal(model, **options):
    options = {"choose": {"0": chooser(2)}, "train_loader": batches(), "num_epochs": 1} | options
    with pytest.raises(ValueError, match="the loss became") as refused:
        train_quantized(model, **options)
    return str(refused.value)


@pytest.mark.parametrize("step_rule", STEP_RULES)
def test_a_loss_that_is_not_finite_names_the_first_layer_that_made_it_so(step_rule):
    model = nn.Sequential(nn.Linear(4, 8), Overflowing(), nn.Softmax(-1), nn.Linear(8, 3))
    assert "in the output of layer '1'" in refusal(model, step_rule=step_rule)


def test_a_layer_inside_a_layer_is_named_itself():
    model = nn.Sequential(nn.Linear(4, 3), nn.Sequential(nn.Identity(), Overflowing()))
    assert "in the output of layer '1.1'" in refusal(model)


def test_what_the_model_computes_besides_its_layers_is_told_apart():
    class Net(nn.Sequential):
        def forward(self, x):
            return super().forward(x) * math.nan

    assert "outside of its layers" in refusal(Net(nn.Linear(4, 3)))


def test_inputs_that_are_not_finite_are_told_from_a_layer_that_overflows():
    ((inputs, targets), *_) = batches()
    data = [(inputs * math.inf, targets)]
    words = refusal(net(), train_loader=data, activation_bits=None)
    assert "in the inputs of the batch" in words


def test_a_finite_output_leaves_the_loss_function():
    words = refusal(net(), loss=lambda outputs, targets: outputs.sum() * math.nan)
    assert "the model's output is finite: look at the loss function" in words


def test_looking_for_the_layer_leaves_no_hook_behind():
    model = nn.Sequential(nn.Linear(4, 3), Overflowing())
    refusal(model)
    assert not any(layer._forward_hooks for layer in model.modules())


def test_a_training_without_a_loss_is_refused():
    with pytest.raises(ValueError, match=r"loss must be a function, .* got None"):
        train_quantized(net(), {"0": chooser(2)}, batches(), 1, loss=None)
