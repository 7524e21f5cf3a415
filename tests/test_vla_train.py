"""labkit/vla/train.py: the robot learns, and an interruption changes nothing."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from labkit import data
from labkit.data import DATA_FOLDER, read_manifest, verified
from labkit.vla import train
from labkit.vla.demos import Demos, collect
from labkit.vla.experience import chosen
from labkit.vla.policy import Policy
from labkit.vla.pupil import Pupil, lesson
from labkit.vla.zoo import robot
from labkit.zoo import load_checkpoint, seeded, training_facts

TINY = train.Recipe(steps=12, batch_size=8, steps_between_saves=4)


def small():
    return seeded(lambda: Pupil(width=8, language=8, reading=1, films=1))


@pytest.fixture(scope="module")
def demos():
    return Demos.joined(collect(m, range(1_000_000, 1_000_008)) for m in ("go to", "pick up"))


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def same(first, second):
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_an_interrupted_training_ends_bit_for_bit_where_it_would_have(demos, tmp_path):
    straight, interrupted, resumed = small(), small(), small()
    records = train.train(straight, demos, TINY)
    kept = tmp_path / "kept.safetensors"
    first = train.train(interrupted, demos, TINY, checkpoint=kept, stop=lambda done: done == 4)
    assert len(first) == 1 and not same(interrupted, straight)
    again = train.train(resumed, demos, TINY, checkpoint=kept)
    assert same(resumed, straight) and again == records


def test_a_finished_training_is_not_trained_further(demos, tmp_path):
    kept, policy, later = tmp_path / "kept.safetensors", small(), small()
    train.train(policy, demos, TINY, checkpoint=kept)
    train.train(later, demos, TINY, checkpoint=kept)
    assert same(policy, later)


def test_the_state_of_another_training_is_refused(demos, tmp_path):
    kept = tmp_path / "kept.safetensors"
    train.train(small(), demos, TINY, checkpoint=kept)
    with pytest.raises(ValueError, match=r"learning_rate was 0\.002 and is 0\.01"):
        train.train(small(), demos, replace(TINY, learning_rate=0.01), checkpoint=kept)


def test_it_learns_what_the_expert_does(demos):
    recipe = train.Recipe(steps=120, batch_size=64, learning_rate=5e-3, steps_between_saves=40)
    policy = small()
    records = train.train(policy, demos, recipe)
    losses = [record.loss for record in records]
    assert losses == sorted(losses, reverse=True)
    assert not any(module.training for module in policy.modules())


def test_the_loss_is_that_of_the_actions_the_maps_and_the_ways(demos):
    # Sums of shares written out, and torch's own loss, on the same batch before any step counts.
    recipe = replace(TINY, steps=1, learning_rate=1e-12, map_weight=3.0)
    (record,) = train.train(small(), demos, recipe)
    batch = chosen(demos, recipe.batch_size, recipe.seed, 0)
    inputs, (actions, targets, moves, known) = lesson(batch)
    logits, maps, ways = small().train()(*inputs)
    wanted = -(logits.softmax(1) * actions).sum(1).log().mean()
    wanted = wanted + 3 * torch.nn.BCEWithLogitsLoss()(maps, targets)
    wanted = wanted - (ways.softmax(1) * moves).sum(1)[known].log().mean()
    assert record.loss == pytest.approx(wanted.item(), rel=1e-5)


def test_the_rate_rises_over_a_tenth_and_falls_to_nothing():
    recipe = train.Recipe(steps=200)
    rates = [recipe.rate(step) for step in range(201)]
    assert rates[0] == rates[200] == 0 and max(rates) == rates[20] == recipe.learning_rate
    assert rates[:21] == sorted(rates[:21]) and rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[110] == pytest.approx(recipe.learning_rate / 2)


@pytest.mark.parametrize(
    "options", [{"steps": 0}, {"learning_rate": 0}, {"steps_between_saves": 0}]
)
def test_senseless_settings_are_refused(demos, options):
    with pytest.raises(ValueError, match=r"got steps=.*needs"):
        train.train(small(), demos, replace(TINY, **options))


def test_a_batch_that_cannot_show_every_view_is_refused(demos):
    with pytest.raises(ValueError, match="multiple of 8, got 12"):
        train.train(small(), demos, replace(TINY, batch_size=12))
    with pytest.raises(ValueError, match="no demonstrations"):
        train.train(small(), demos[:0], TINY)


def test_a_diverging_training_stops_and_says_what_to_do(demos):
    with pytest.raises(ValueError, match=r"loss became .* try a learning rate below"):
        train.train(small(), demos, replace(TINY, learning_rate=1e30))


def test_a_batch_follows_from_seed_and_step_and_shows_every_view(demos):
    first, again = (chosen(demos, 800, 1, 5) for _ in range(2))
    assert np.array_equal(first.rooms, again.rooms)
    assert not np.array_equal(first.rooms, chosen(demos, 800, 1, 6).rooms)
    assert not np.array_equal(first.rooms, chosen(demos, 800, 2, 5).rooms)
    # The expert never turns the robot on purpose to one side only: each direction is equally often.
    directions = np.bincount(first.rooms[first.rooms >= 20] // 20 - 1, minlength=4)
    assert directions.min() > 130


@pytest.fixture
def folder(tmp_path, monkeypatch):
    copy = tmp_path / "data"
    shutil.copytree(DATA_FOLDER, copy, ignore=shutil.ignore_patterns("cache"))
    monkeypatch.setattr(data, "DATA_FOLDER", copy)
    return copy


def test_the_checkpoint_is_replaced_with_its_record(folder):
    quality = train.retrain(1, folder, stages=[TINY, TINY], episodes=6, progress=False)
    entry = read_manifest(folder)["robot_seed1.safetensors"]
    assert (entry["held_out_success"], entry["held_out_episodes"]) == (quality.correct, 6)
    path = verified("robot_seed1.safetensors", folder)
    facts = training_facts(path)
    assert facts["command"] == entry["remake"] == "python -m labkit.vla.train --seed 1"
    stages = [(stage["seed"], stage["steps"]) for stage in facts["stages"]]
    assert facts["seed"] == 1 and stages == [(1, 12), (1, 12)]
    assert facts["data_sha256"] == read_manifest(folder)["robot_demos.npz"]["content_sha256"]
    assert same(robot(1), _loaded(path))
    # What was kept to go on from is not left behind.
    assert not list((folder / "cache").glob("*training*"))
    content = path.read_bytes()
    train.retrain(1, folder, stages=[TINY, TINY], episodes=6, progress=False)
    assert path.read_bytes() == content


def test_another_seed_starts_from_other_weights():
    assert not same(robot(0, trained=False), robot(1, trained=False))


def _loaded(path):
    policy = Policy()
    load_checkpoint(policy, path)
    return policy


def test_the_command_names_its_seeds(capsys):
    with pytest.raises(SystemExit):
        train.main(["--seed", "9"])
    assert "invalid choice: 9" in capsys.readouterr().err


def test_the_header_is_plain_json(folder):
    train.retrain(2, folder, stages=[TINY], episodes=3, progress=False)
    content = (folder / "robot_seed2.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert list(header["__metadata__"]) == ["training"]
