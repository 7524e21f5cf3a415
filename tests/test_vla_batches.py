"""labkit/vla/batches: the bundled demonstrations, and what is made of them."""

import numpy as np
import pytest
import torch

from labkit.data import read_manifest, verified
from labkit.remake import digest_of
from labkit.vla.batches import (
    EPISODES,
    FILE,
    bundled_demos,
    calibration_batches,
    imitation_batches,
    remake_demos,
)
from labkit.vla.demos import demonstrate
from labkit.vla.env import FIRST_TRAINING_SEED, MISSIONS, Episode


def test_the_bundled_demos_are_what_the_expert_does():
    demos = bundled_demos()
    wanted = demonstrate(Episode("go to", FIRST_TRAINING_SEED))
    assert np.array_equal(demos.rooms[: len(wanted)], wanted.rooms)
    assert np.array_equal(demos.actions[: len(wanted)], wanted.actions)


def test_no_bundled_episode_is_held_out():
    seeds = bundled_demos().episodes
    assert seeds.min() >= FIRST_TRAINING_SEED and seeds.max() < FIRST_TRAINING_SEED + EPISODES


def test_nobody_can_change_the_bundled_demos():
    with pytest.raises(ValueError, match="read-only"):
        bundled_demos().rooms[0] = 0


def test_the_file_is_small_and_its_content_recorded():
    entry = read_manifest()[FILE]
    assert entry["bytes"] < 1_000_000
    assert entry["content_sha256"] == digest_of(vars(bundled_demos()))


def test_the_command_makes_the_same_steps_again(tmp_path):
    path = remake_demos(2, tmp_path)
    assert path == verified(FILE, tmp_path)
    with np.load(path) as stored:
        few = dict(stored)
    demos = bundled_demos()
    first_two = demos[demos.episodes < FIRST_TRAINING_SEED + 2]
    assert {name: part.tolist() for name, part in few.items()} == {
        name: part.tolist() for name, part in vars(first_two).items()
    }
    assert len(np.unique(few["episodes"])) == 2 and len(MISSIONS) == 3


def test_calibration_shows_each_step_once_in_float():
    batches = calibration_batches(40, batch_size=16)
    assert [len(words) for _, words in batches] == [16, 16, 8]
    pictures = torch.cat([p for p, _ in batches])
    assert pictures.shape == (40, 3, 64, 64) and pictures.dtype == torch.float32
    assert pictures.min() >= 0 and pictures.max() <= 1
    assert batches[0][1].dtype == torch.int64


def test_calibration_follows_from_its_seed():
    one, again, other = (calibration_batches(8, seed=seed)[0] for seed in (0, 0, 1))
    assert torch.equal(one[0], again[0]) and torch.equal(one[1], again[1])
    assert not torch.equal(one[0], other[0])


def test_imitation_follows_from_its_seed_and_every_epoch_is_another():
    def actions(loader):
        return torch.cat([done for _, done in loader]).tolist()

    first, second = (imitation_batches(3, batch_size=32, seed=5) for _ in range(2))
    epochs = [actions(first), actions(first)]
    assert epochs[0] != epochs[1]
    assert epochs == [actions(second), actions(second)]


def test_an_epoch_goes_on_from_the_state_of_the_generator():
    loader = imitation_batches(2, batch_size=16)
    list(loader)
    state = loader.generator.get_state()
    wanted = next(iter(loader))
    loader.generator.set_state(state)
    assert torch.equal(next(iter(loader))[0][0], wanted[0][0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: calibration_batches(0), "count must be 1 to"),
        (lambda: calibration_batches(10**7), "count must be 1 to"),
        (lambda: calibration_batches(8, batch_size=0), "at least 1"),
        (lambda: imitation_batches(0), "at least one batch, got 0"),
        (lambda: imitation_batches(batch_size=12), "multiple of 8, got 12"),
    ],
)
def test_bad_numbers_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
