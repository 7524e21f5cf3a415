"""labkit/vla/evaluate: success as a quality for the rest of the lab, many policies at play."""

import pickle

import numpy as np
import pytest
import torch

from labkit.evaluate import Accuracy
from labkit.layers import QuantLayer
from labkit.quantize import quantize_model
from labkit.vla.env import ACTIONS
from labkit.vla.evaluate import ClosedLoop, roll_out_many
from labkit.vla.policy import Policy
from labkit.vla.rollout import agreement, held_out, roll_out, success

EPISODES = [("go to", 0), ("pick up", 3), ("put next to", 1)]


def small_policy(seed=0):
    torch.manual_seed(seed)
    return Policy(width=8, language=8, reading=1, films=1).eval()


def always(action):
    return lambda pictures, words: torch.eye(len(ACTIONS))[action].expand(len(words), -1)


def told(rollouts):
    return [(r.mission, r.seed, r.end, r.actions.tolist(), r.rooms.tolist()) for r in rollouts]


def test_a_number_means_the_held_out_episodes():
    assert ClosedLoop(5).episodes == tuple(held_out(5))
    assert ClosedLoop(np.int64(5)) == ClosedLoop(5)
    assert len(ClosedLoop().episodes) == 600


def test_the_quality_is_the_success_of_the_rollouts():
    closed_loop, policy = ClosedLoop(EPISODES), small_policy()
    quality = closed_loop(policy)
    assert isinstance(quality, Accuracy)
    assert quality == success(roll_out(policy, EPISODES))
    assert told(closed_loop.rollouts(policy)) == told(roll_out(policy, EPISODES))


def test_it_can_be_sent_to_another_process():
    closed_loop = ClosedLoop(EPISODES)
    assert pickle.loads(pickle.dumps(closed_loop)) == closed_loop  # noqa: S301


def test_a_report_holds_both_qualities():
    _, report = quantize_model(small_policy(), bits=8, evaluate=ClosedLoop(EPISODES))
    assert report.original_quality.n == report.quality.n == len(EPISODES)


@pytest.mark.parametrize("episodes", [0, []])
def test_no_episodes_are_refused(episodes):
    with pytest.raises(ValueError, match=r"at least 1|no episodes"):
        ClosedLoop(episodes)


def test_many_policies_play_the_same_episodes():
    found = roll_out_many({"left": always(0), "right": always(1)}, EPISODES)
    assert list(found) == ["left", "right"]
    for name, policy in (("left", always(0)), ("right", always(1))):
        assert told(found[name]) == told(roll_out(policy, EPISODES))


def test_two_processes_see_the_same_as_one():
    policies = {str(seed): small_policy(seed) for seed in range(2)}
    alone, shared = (roll_out_many(policies, EPISODES, n_jobs=n) for n in (1, 2))
    assert {name: told(r) for name, r in alone.items()} == {
        name: told(r) for name, r in shared.items()
    }


def test_no_policies_are_refused():
    with pytest.raises(ValueError, match="no policies"):
        roll_out_many({}, EPISODES)


@pytest.mark.parametrize("method", ["weight_only", "dynamic"])
def test_a_quantized_policy_plays_with_its_weights_unpacked_and_stays_packed(method):
    model, _ = quantize_model(small_policy(), method, bits=3)
    layers = [m for m in model.modules() if isinstance(m, QuantLayer)]

    def packed(pictures, words):
        # As a function, so that the rollout sees no module whose weights it could unpack.
        assert all(layer.kept is None for layer in layers)
        return model(pictures, words)

    rollouts = roll_out(model, EPISODES)
    assert told(rollouts) == told(roll_out(packed, EPISODES))
    assert agreement(model, rollouts) == 1.0
    assert all(layer.kept is None for layer in layers)
