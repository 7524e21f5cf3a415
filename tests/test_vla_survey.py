"""labkit/vla/survey.py: what is stored is what the robot gives when it is measured again."""

import numpy as np
import pytest

from labkit.divergence import MinusDivergence
from labkit.mixed import widths_of
from labkit.quantize import quantize_model
from labkit.vla import survey as module
from labkit.vla.batches import calibration_batches
from labkit.vla.env import FIRST_TRAINING_SEED
from labkit.vla.evaluate import ClosedLoop
from labkit.vla.rollout import held_out, validation
from labkit.vla.survey import BITS, EPISODES, Plans, rooms, survey
from labkit.vla.zoo import robot


@pytest.fixture(scope="module")
def known():
    return survey()


def test_the_rooms_are_none_that_judge_or_train():
    seeds = {seed for _, seed in rooms()}
    assert seeds.isdisjoint(seed for _, seed in held_out(600) + validation(3000))
    assert max(seeds) < FIRST_TRAINING_SEED


def test_losses_are_those_of_the_robot(known):
    quality = MinusDivergence(robot(), calibration_batches(module.STEPS))
    for layer, column in ((0, 1), (20, 0), (len(known.features.layers) - 1, 2)):
        widths = {known.features.layers[layer]: BITS[column]}
        loss = -quality(quantize_model(robot(), bits=widths)[0])
        assert known.features.loss[layer, column] == pytest.approx(loss, rel=1e-2, abs=1e-6)


def test_successes_are_those_of_the_robot(known):
    widths = widths_of(known.features.sensitivity, known.best.choices[4])
    played = ClosedLoop(rooms())(quantize_model(robot(), bits=widths)[0])
    assert played.n == EPISODES
    # An episode or two may end differently where sums are rounded differently.
    assert known.best.right[4] == pytest.approx(played.correct, abs=3)


def test_sizes_are_those_of_the_report(known):
    for plans in (known.random, known.best, known.uniform):
        widths = widths_of(known.features.sensitivity, plans.choices[1])
        report = quantize_model(robot(), bits=widths)[1]
        assert known.features.bytes_of(plans.choices[1]) == report.quantized_bytes


def test_a_plan_has_its_interval():
    plans = Plans(np.array([[0]]), np.array([75]))
    assert plans.success(0).value == 0.5 and plans.success(0).n == EPISODES


def test_the_prediction_holds_all_plans(known):
    assert len(known.prediction(best=False)) == len(known.random.choices) >= 50
    assert len(known.prediction()) == len(known.random.choices) + len(known.best.choices)


def test_what_is_written_is_read_again(known, tmp_path):
    path = module.store(known, tmp_path)
    with np.load(path, allow_pickle=False) as stored:
        again = module._from_arrays({name: stored[name] for name in stored.files})
    assert again.features.layers == known.features.layers
    assert np.array_equal(again.features.loss, known.features.loss)
    assert np.array_equal(again.random.right, known.random.right)
    assert again.features.quality == known.features.quality
