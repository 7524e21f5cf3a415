"""labkit/qat_schedule.py and labkit/qat_control.py: stages in turn, and float beside them."""

import copy

import pytest
import torch
from torch import nn

from labkit.evaluate import Accuracy
from labkit.qat import train_quantized
from labkit.qat_control import train_with_control
from labkit.qat_schedule import shared_out, train_progressively
from labkit.qparams import choose_qparams
from labkit.quantize import quantize_model


def batches(count=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 16, 4, generator=generator)
    return [(part, part[:, :3].argmax(1)) for part in x]


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def choosers(bits):
    def choose(weight):
        return choose_qparams(weight, bits, symmetric=True, signed=True, axis=0)

    return {"0": choose, "2": choose}


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_each_stage_starts_from_the_float_weights_of_the_one_before():
    model, by_hand = net(), net()
    stages = train_progressively(model, (8, 3), train_loader=batches(), num_epochs=(1, 2))
    train_quantized(by_hand, choosers(8), batches(), 1)
    last = train_quantized(by_hand, choosers(3), batches(), 2)
    assert torch.equal(weights(model), weights(by_hand))
    assert [s.weight_grids["0"].quant_max for s in stages] == [127, 3]
    assert torch.equal(stages[-1].weight_grids["2"].scale, last.weight_grids["2"].scale)
    assert [len(s.history) for s in stages] == [1, 2]


@pytest.mark.parametrize(
    ("total", "stages", "expected"),
    [(3, 3, (1, 1, 1)), (7, 3, (2, 2, 3)), (8, 3, (2, 3, 3)), ([4, 1], 2, (4, 1)), (5, 1, (5,))],
)
def test_epochs_are_shared_out_the_rest_to_the_last(total, stages, expected):
    assert shared_out(total, stages) == expected


@pytest.mark.parametrize(("total", "stages"), [(2, 3), ((1, 2), 3), ((1, 0), 2), (3, 0)])
def test_a_stage_without_an_epoch_is_refused(total, stages):
    with pytest.raises(ValueError, match="each stage needs an epoch or more"):
        shared_out(total, stages)


def test_bits_out_of_range_are_refused_before_any_stage():
    model = net()
    before = weights(model)
    with pytest.raises(ValueError, match="from 2 to 8"):
        train_progressively(model, (8, 1), train_loader=batches(), num_epochs=2)
    assert torch.equal(weights(model), before)


def test_stopping_ends_the_schedule():
    count = iter(range(100))
    stages = train_progressively(
        net(), train_loader=batches(), num_epochs=3, stop=lambda: next(count) == 8
    )
    assert [s.ended for s in stages] == ["finished", "stopped"]


def test_an_interrupted_schedule_goes_on_where_it_was(tmp_path):
    class Interruption(Exception):
        pass

    def lights_out(record):
        seen.append(record)
        if len(seen) == 15:
            raise Interruption

    options = {"train_loader": batches(), "num_epochs": 6, "step_rule": "learned"}
    whole = net()
    train_progressively(whole, **options)
    seen, path = [], tmp_path / "run.safetensors"
    with pytest.raises(Interruption):
        train_progressively(net(), checkpoint=path, after_batch=lights_out, **options)
    resumed = net()
    stages = train_progressively(resumed, checkpoint=path, **options)
    assert torch.equal(weights(whole), weights(resumed))
    assert [len(s.history) for s in stages] == [2, 2, 2]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f"run-stage-{stage}-{bits}-bits.safetensors" for stage, bits in ((1, 8), (2, 4), (3, 2))
    ]


# ---------------------------------------------------------------- a whole model, and its control


def test_a_schedule_for_a_whole_model_ends_at_the_bits_asked_for():
    seen = []
    quantized, _ = quantize_model(
        net(),
        "qat",
        bits={"0": 2, "2": 4},
        train_loader=batches(),
        num_epochs=3,
        training={
            "schedule": (8, 4, 2),
            "validate": lambda m: seen.append([len(m[i].weight.unique()) for i in (0, 2)]) or 0.0,
        },
    )
    assert (quantized[0].bits, quantized[2].bits) == (2, 4)
    # Levels of the weight that is read while it trains: at most those of the wider of the two.
    assert all(a <= 8 * 2 ** max(2, s) for (a, _), s in zip(seen, (8, 4, 2), strict=True))
    assert seen[0][0] > seen[2][0]


def test_a_schedule_that_does_not_reach_the_bits_is_refused():
    with pytest.raises(ValueError, match="schedule must come down"):
        quantize_model(
            net(),
            "qat",
            bits=2,
            train_loader=batches(),
            num_epochs=2,
            training={"schedule": (8, 4)},
        )


def test_the_control_is_the_float_model_trained_the_same_way():
    model = net()
    by_hand = copy.deepcopy(model)
    options = {"learning_rate": 5e-3, "max_norm": 0.5}
    _, control = train_with_control(
        model, lambda stage: choosers(2), batches(), 3, step_rule="learned", **options
    )
    train_quantized(by_hand, {}, batches(), 3, activation_bits=None, **options)
    assert torch.equal(weights(control), weights(by_hand))
    assert not torch.equal(weights(control), weights(model))


def test_the_control_trains_as_long_as_training_lasted():
    epochs = []

    def evaluate(model):
        epochs.append(weights(model).clone() if type(model[0]) is nn.Linear else None)
        return 0.5

    qualities = iter([0.5, 0.4, 0.3])
    quantize_model(
        net(),
        "qat",
        train_loader=batches(),
        num_epochs=9,
        evaluate=evaluate,
        training={"validate": lambda m: next(qualities), "patience": 2},
    )
    by_hand = net()
    train_quantized(by_hand, {}, batches(), 3, activation_bits=None)
    assert any(w is not None and torch.equal(w, weights(by_hand)) for w in epochs)


def test_the_report_has_all_three_qualities():
    answers = iter([Accuracy.of(9, 10), Accuracy.of(7, 10), Accuracy.of(8, 10)])
    _, report = quantize_model(
        net(), "qat", train_loader=batches(), num_epochs=1, evaluate=lambda model: next(answers)
    )
    assert (report.original_quality.correct, report.quality.correct) == (9, 7)
    assert report.control_quality.correct == 8
    assert f"float, trained as long: {report.control_quality}" in str(report)
    assert "float, trained as long: 80.0 %" in report._repr_html_()
    assert report.as_dict()["control_quality"]["correct"] == 8


def test_training_that_was_stopped_has_no_control():
    _, report = quantize_model(
        net(),
        "qat",
        train_loader=batches(),
        num_epochs=2,
        evaluate=lambda model: 0.5,
        training={"stop": lambda: True},
    )
    assert report.quality == 0.5 and report.control_quality is None


@pytest.mark.parametrize("method", ["dynamic", "static"])
def test_only_training_leaves_inputs_float(method):
    with pytest.raises(ValueError, match=f"{method} quantizes what enters"):
        quantize_model(net(), method, activation_bits=None, calibration_data=[torch.ones(1, 4)])
    quantized, report = quantize_model(
        net(), "qat", activation_bits=None, train_loader=batches(), num_epochs=1
    )
    assert report.activation_bits is None and quantized[0].input_quantizer is None
