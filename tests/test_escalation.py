"""The steps that are tried on a plan, and the workshop that judges them."""

from functools import partial

import pytest
import torch
from torch import nn

from labkit import escalation
from labkit.constraints import Constraints
from labkit.divergence import MinusDivergence
from labkit.escalation import CALIBRATED, NEAREST, ROUNDED, TRAINED, escalate
from labkit.evaluate import accuracy
from labkit.features import encode_model
from labkit.fusion import Limits, fuse
from labkit.offers import more_bytes, more_loss, smallest_file
from labkit.quantize import quantize_model
from labkit.requirement import Requirement
from labkit.rounding import learn_rounding
from labkit.verification import file_bytes
from labkit.vla.evaluate import ClosedLoop, calibration_batches
from labkit.vla.policy import Policy
from labkit.workshop import Workshop


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 5)).eval()


@pytest.fixture(scope="module")
def x():
    return torch.randn(300, 16, generator=torch.Generator().manual_seed(1)) + 0.5


@pytest.fixture
def workshop(net, x):
    """A network whose own answers are the right ones."""
    labels = net(x).argmax(1)

    def evaluate(model):
        return accuracy(model, x, labels)

    features = encode_model(
        net,
        evaluate=evaluate,
        proxy=MinusDivergence(net, x),
        example=x[:1],
        bits=(2, 4, 8),
        timed=False,
    )
    loader = [(part, labels[:50]) for part in [x[:50]]]
    limits = Limits.of(
        Constraints(), Requirement(max_loss=0.02), features.original_bytes, features.quality.value
    )
    return Workshop(net, features, limits, evaluate, [x[:100]], x[:1], loader, num_epochs=1)


def both(width):
    return {"0": width, "2": width}


def test_the_steps_come_in_order_each_measured(workshop):
    made = list(escalate(workshop, both(2)))
    assert [one.step for one in made] == [NEAREST, CALIBRATED, ROUNDED, TRAINED]
    for one in made:
        assert one.report.quality == workshop.evaluate(one.quantized)
        assert one.bytes == file_bytes(one.quantized)
        assert one.widths == both(2)


def test_the_steps_after_nearest_rounding_keep_the_answers_closer(workshop, net, x):
    change = MinusDivergence(net, x)
    nearest, calibrated, rounded, _ = (change(one.quantized) for one in escalate(workshop, both(2)))
    assert nearest < calibrated < 0 and nearest < rounded < 0


def test_steps_without_their_data_are_left_out(workshop):
    workshop.calibration_data = workshop.train_loader = None
    assert [one.step for one in escalate(workshop, both(4))] == [NEAREST]


def test_training_can_be_left_out(workshop):
    steps = [one.step for one in escalate(workshop, both(4), training=False)]
    assert steps == [NEAREST, CALIBRATED, ROUNDED]


def test_no_step_is_made_before_it_is_asked_for(workshop, monkeypatch):
    monkeypatch.setattr(escalation, "correct_bias", None)
    assert next(escalate(workshop, both(8))).step == NEAREST


def test_a_grid_that_takes_too_many_bytes_is_not_chosen(workshop):
    tight = file_bytes(workshop.quantize(both(2)))
    workshop.limits = Limits(tight, None, Constraints(memory_bytes=tight), Requirement())
    _, calibrated, _ = escalate(workshop, both(2), training=False)
    assert calibrated.kept


def test_a_static_plan_also_tries_other_ranges_of_what_enters(workshop):
    workshop.method = "static"
    _, calibrated, _ = escalate(workshop, both(4), training=False)
    assert "the best of 9" in calibrated.said and "observer" in calibrated.said
    assert calibrated.report.activation_bits == 8


def test_the_report_is_that_of_quantize_model(workshop, net):
    made = next(escalate(workshop, both(4)))
    _, report = quantize_model(net, bits=both(4))
    assert made.report.quantized_bytes == report.quantized_bytes
    assert made.report.layers == report.layers


def test_what_misses_a_limit_says_so(workshop):
    workshop.limits = Limits(10, 0.5, Constraints(memory_bytes=10), Requirement(max_loss=0.5))
    made = next(escalate(workshop, both(4)))
    assert not made.kept and [c.kept for c in made.checks] == [False, True]
    assert "at most 10 asked: missed" in str(made)


def test_more_bytes_are_offered_as_few_as_keep_the_loss(workshop):
    offer = more_bytes(workshop)
    assert offer.made.kept
    fewest = workshop.quantize(both(2))
    assert file_bytes(fewest) <= offer.made.bytes <= file_bytes(workshop.quantize(both(8)))


def test_no_bytes_are_offered_where_none_would_do(workshop):
    workshop.limits = Limits(None, -1.0, Constraints(), Requirement())
    assert more_bytes(workshop) is None


def test_the_smallest_file_is_offered_with_its_loss(workshop):
    fused = fuse(workshop.features, Constraints(memory_bytes=10), Requirement())
    offer = smallest_file(workshop, fused)
    assert offer.made.bytes == file_bytes(workshop.quantize(both(2)))
    assert str(offer).endswith(f"with {offer.made.loss.text} lost (measured)")


def test_the_least_loss_of_what_was_tried_is_offered(workshop):
    tried = list(escalate(workshop, both(2)))
    offer = more_loss(tried)
    assert offer.made.loss.value == min(one.loss.value for one in tried)


def test_a_policy_of_two_inputs_goes_up_the_steps(monkeypatch):
    monkeypatch.setattr(escalation, "learn_rounding", partial(learn_rounding, iterations=5))
    torch.manual_seed(0)
    policy = Policy(width=8, language=8, reading=1, films=1).eval()
    data, loop = calibration_batches(32), ClosedLoop(3)
    features = encode_model(
        policy,
        evaluate=loop,
        proxy=MinusDivergence(policy, data),
        example=tuple(x[:1] for x in data[0]),
        bits=(2, 8),
        timed=False,
    )
    limits = Limits.of(Constraints(memory_bytes=10**6), Requirement(), 10**6, 0.5)
    workshop = Workshop(policy, features, limits, loop, data, None)
    made = list(escalate(workshop, dict.fromkeys(features.layers, 2)))
    assert [one.step for one in made] == [NEAREST, CALIBRATED, ROUNDED]
    assert all(one.kept and one.report.quality.n == 3 for one in made)
