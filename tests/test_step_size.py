"""The step panel at every slider position, against LSQ's equations written out in float64."""

import numpy as np
import pytest
import torch

from labkit.data import load_mnist
from labkit.explorers import step_size
from labkit.explorers.panel import Panel, sweep
from labkit.explorers.scene import Line, Points, Rule, Stems
from labkit.zoo import mnist_mlp


def by_hand(layer, bits, at):
    """Loss, error and both slopes over ln s, in float64 and with no autograd of labkit's."""
    net, mnist = mnist_mlp().double(), load_mnist()
    weight = net.get_submodule(layer).weight.detach().clone()
    qp, qn = 2 ** (bits - 1) - 1, 2 ** (bits - 1)
    # The step as the panel holds it, in float32.
    step = torch.tensor(step_size.FACTORS[at] * weight.abs().max().item() / qp).double()
    v = weight / step
    codes = v.round().clamp(-qn, qp)
    rounded = (codes * step).requires_grad_()
    target = net.get_submodule(layer)
    del target.weight
    target.weight = rounded
    loss = torch.nn.functional.cross_entropy(
        net(mnist.train_images[:300].double()), mnist.train_labels[:300]
    )
    (gradient,) = torch.autograd.grad(loss, rounded)
    inside = (v.round() >= -qn) & (v.round() <= qp)
    equation_3 = torch.where(inside, codes - v, codes)
    mse = (rounded - weight).square().mean()
    return (
        loss.item(),
        mse.item(),
        (gradient * equation_3).sum().item() * step.item(),
        (gradient * codes).sum().item() * step.item(),
    )


@pytest.mark.parametrize("layer", step_size.LAYERS)
@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("at", [0, 11, 20])
def test_loss_error_and_slopes_are_those_of_the_equations(layer, bits, at):
    loss, mse, learned, held = by_hand(layer, bits, at)
    assert step_size.curve(layer, bits)[at] == pytest.approx((loss, mse), rel=2e-3)
    found = step_size.slopes(layer, bits, at)
    assert found == pytest.approx((learned, held), rel=0.02, abs=2e-3)


def test_one_of_the_steps_is_the_range_rules():
    assert step_size.FACTORS[step_size.State().at] == 1.0
    assert list(step_size.FACTORS) == sorted(step_size.FACTORS)


def test_the_first_step_is_the_papers():
    for layer in step_size.LAYERS:
        weight = mnist_mlp().get_submodule(layer).weight.detach().numpy()
        for bits in (2, 3, 4):
            qp = 2 ** (bits - 1) - 1
            wanted = 2 * np.abs(weight).mean() / qp**0.5 / (np.abs(weight).max() / qp)
            assert step_size.first_step(layer, bits) == pytest.approx(wanted, rel=1e-5)


def test_at_two_bits_the_learned_rule_points_to_the_valley_and_the_held_one_does_not():
    losses = [loss for loss, _ in step_size.curve("fc1", 2)]
    best = losses.index(min(losses))
    assert 5 < best < 18
    for at in (0, best - 4, best - 3):
        assert step_size.slopes("fc1", 2, at)[0] < 0
    for at in (best + 3, best + 4, 20, 22):
        assert step_size.slopes("fc1", 2, at)[0] > 0
        assert step_size.slopes("fc1", 2, at)[1] < 0


def test_at_two_bits_the_range_rule_is_far_up_the_hill():
    losses = [loss for loss, _ in step_size.curve("fc1", 2)]
    first = step_size.first_step("fc1", 2)
    start = min(range(len(losses)), key=lambda at: abs(step_size.FACTORS[at] - first))
    assert losses[20] > 1.5 and losses[start] < 0.06


def test_every_position_draws_the_point_on_its_curve_inside_the_axes():
    for state, picture in sweep(step_size.scene, step_size.State(), step_size.controls()):
        every = step_size.curve(state.layer, state.bits)
        learned, held = step_size.slopes(state.layer, state.bits, state.at)
        losses, errors = picture.rows[0]
        curve = next(m for m in losses.marks if isinstance(m, Line) and m.label == "measured")
        dot = next(m for m in losses.marks if isinstance(m, Points))
        assert curve.y[state.at] == dot.y[0] == every[state.at][0]
        for plot in (losses, errors):
            for mark in plot.marks:
                if isinstance(mark, Points) or (isinstance(mark, Line) and len(mark.x) > 2):
                    assert all(plot.y.low < y < plot.y.high for y in mark.y)
                if isinstance(mark, Rule):
                    assert plot.x.low < mark.at < plot.x.high
        tangents = {m.label: m for m in losses.marks if isinstance(m, Line) and len(m.x) == 2}
        for label, slope in (("LSQ", learned), ("codes held", held)):
            drawn = np.log(tangents[label].y[1] / tangents[label].y[0]) / 0.9
            assert drawn == pytest.approx(slope / every[state.at][0], abs=1e-6)
        says = "grow" if learned < 0 else "shrink"
        assert picture.readout("LSQ says").value == says
        step = picture.readout("step").value
        (stems,) = picture.marks(Stems)
        assert all(abs(x / step - round(x / step)) < 1e-5 for x in stems.x)
        assert 1 <= len(stems.x) <= 2**state.bits


def test_the_panel_moves():
    panel = step_size.explorer(layer="fc3")
    assert isinstance(panel, Panel) and not panel.error
    before = panel.svg
    panel.set(bits=4, at=10)
    assert panel.svg != before and not panel.error
