"""What the planner says."""

import pytest
import torch
from torch import nn

from labkit.evaluate import Accuracy
from labkit.planner import plan_quantization


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 24), nn.ReLU(), nn.Linear(24, 5)).eval()


@pytest.fixture(scope="module")
def data():
    return [torch.randn(50, 32, generator=torch.Generator().manual_seed(1))]


def lines(net, data, wish, **more):
    return plan_quantization(net, None, wish, calibration_data=data, **more).explanation.split("\n")


def test_it_begins_with_what_was_understood_and_ends_with_what_was_gained(net, data):
    first, *_, last = lines(net, data, "under 4 kB")
    assert first.startswith('"under 4 kB": ')
    assert "times smaller (measured)" in last


def test_a_chinese_request_is_answered_by_what_was_understood_in_chinese(net, data):
    assert lines(net, data, "模型小于4KB")[0].startswith('"模型小于4KB"')


def test_a_quality_that_nobody_measures_is_not_claimed(net, data):
    text = "\n".join(lines(net, data, "under 4 kB"))
    assert "its quality was not asked for" in text


def test_the_layers_that_mind_most_are_named_with_their_widths(net, data):
    (most,) = (x for x in lines(net, data, "under 4 kB") if x.startswith("What minds most"))
    assert "0 (" in most and "2 (" in most and "gets" in most


def test_where_no_layer_minds_none_is_named(net, data):
    said = lines(net, None, "under 4 kB", evaluate=lambda model: 0.5, example=data[0][:1])
    assert not any(line.startswith("What minds most") for line in said)


def test_checked_plans_give_the_predicted_loss_its_unit_and_rank_correlation(net, data):
    labels = net(data[0]).argmax(1)

    def evaluate(model):
        return (model(data[0]).argmax(1) == labels).double().mean()

    text = "\n".join(lines(net, data, {"max_loss": 0.3}, evaluate=evaluate))
    assert "plans were measured, rank correlation" in text
    assert "points (predicted" not in text


def test_a_predicted_loss_of_a_share_is_said_in_points_and_a_cost_in_its_unit(net, data):
    labels = net(data[0]).argmax(1)

    def evaluate(model):
        return Accuracy.of(int((model(data[0]).argmax(1) == labels).sum()), len(labels))

    text = "\n".join(lines(net, data, {"max_loss": 0.3}, evaluate=evaluate))
    assert "points (predicted" in text and " nats at 2 bits; gets" in text
