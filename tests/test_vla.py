"""labkit/vla: the robot's world, its expert, its policy and the closed loop."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.quantize import quantizable_layers, quantize_model
from labkit.vla.controls import random_actions
from labkit.vla.demos import Demos, collect, turned
from labkit.vla.env import ACTIONS, FLAVOURS, LENGTH, MISSIONS, WORDS, Episode, pictures, tokens
from labkit.vla.policy import Policy
from labkit.vla.rollout import (
    agreement,
    compare,
    departure,
    held_out,
    roll_out,
    success,
    validation,
)


@pytest.fixture(scope="module")
def demos():
    return {mission: collect(mission, range(1_000_000, 1_000_012)) for mission in MISSIONS}


@pytest.mark.parametrize("mission", MISSIONS)
def test_the_camera_sees_what_minigrid_draws(mission):
    episode = Episode(mission, seed=5)
    for action in (0, 2, 2, 1, 2):
        seen = pictures(episode.tiles()[None])[0]
        drawn = episode.world.get_frame(highlight=False, tile_size=8)
        assert np.array_equal(seen, drawn)
        episode.step(action)


def test_a_carried_thing_is_drawn_in_the_robots_own_cell(demos):
    steps = demos["put next to"]
    carrying = steps.rooms[(steps.actions == 4)]
    robots = [room[room >= FLAVOURS] for room in carrying]
    assert all(len(robot) == 1 and robot[0] % FLAVOURS >= 2 for robot in robots)


@pytest.mark.parametrize("mission", MISSIONS)
def test_the_same_seed_is_the_same_room_and_another_seed_is_not(mission):
    first, again, other = (Episode(mission, seed) for seed in (7, 7, 8))
    assert first.mission == again.mission
    assert np.array_equal(first.tiles(), again.tiles())
    assert not np.array_equal(first.tiles(), other.tiles())


def test_every_mission_is_made_of_known_words_and_refers_to_no_first_pose():
    for mission in MISSIONS:
        for seed in range(40):
            sentence = Episode(mission, seed).mission
            numbers = tokens(sentence)
            assert " ".join(WORDS[n] for n in numbers if n) == sentence
            assert not {"left", "right", "front", "behind", "you"} & set(sentence.split())


@pytest.mark.parametrize("mission", MISSIONS)
def test_doing_what_the_expert_did_succeeds(demos, mission):
    steps = demos[mission]
    for seed in np.unique(steps.episodes):
        episode = Episode(mission, seed)
        for action in steps.actions[steps.episodes == seed]:
            assert not episode.done
            episode.step(int(action))
        assert episode.success


def test_targets_stand_on_things_of_the_named_kind(demos):
    for steps in demos.values():
        for room, words, targets in zip(steps.rooms, steps.words, steps.targets, strict=True):
            named = [WORDS[w] for w in words if w]
            things = [divmod(tile % FLAVOURS - 2, 6) for tile in room[targets[0]]]
            kinds = {("ball", "box", "key")[kind] for kind, _ in things}
            assert kinds <= set(named) or "object" in named


@given(turns=st.integers(0, 3), mirrored=st.booleans())
@settings(max_examples=8, deadline=None)
def test_a_turned_room_obeys_the_same_rules(demos, turns, mirrored):
    # Independent of how rooms are turned: where the robot ends up after "forward".
    steps = turned(demos["go to"], turns, mirrored)
    ahead = {0: (0, 1), 1: (1, 0), 2: (0, -1), 3: (-1, 0)}
    pairs = np.flatnonzero(steps.episodes[1:] == steps.episodes[:-1])
    for i in pairs:
        (place,), (after,) = (np.argwhere(steps.rooms[k] >= FLAVOURS) for k in (i, i + 1))
        way = int(steps.rooms[i][tuple(place)]) // FLAVOURS - 1
        way_after = int(steps.rooms[i + 1][tuple(after)]) // FLAVOURS - 1
        action = int(steps.actions[i])
        if action == 2:
            assert tuple(after - place) == ahead[way] and way_after == way
        elif action < 2:
            assert tuple(after) == tuple(place) and way_after == (way + (1 if action else -1)) % 4


def test_four_quarter_turns_or_two_mirrors_change_nothing(demos):
    steps = demos["pick up"]
    round_trip = turned(turned(steps, 1, True), 0, False)
    for _ in range(3):
        round_trip = turned(round_trip, 1, False)
    back = turned(round_trip, 0, True)
    assert np.array_equal(back.rooms, steps.rooms)
    assert np.array_equal(back.targets, steps.targets)
    assert np.array_equal(back.actions, steps.actions)


def test_rooms_to_choose_by_are_none_that_judge():
    chosen_by, judged_by = (dict.fromkeys(rooms(3000)) for rooms in (validation, held_out))
    assert len(chosen_by) == len(judged_by) == 3000
    assert not chosen_by.keys() & judged_by.keys()


def test_demos_join_in_order(demos):
    parts = list(demos.values())
    joined = Demos.joined(parts)
    assert len(joined) == sum(map(len, parts))
    assert np.array_equal(joined.actions[: len(parts[0])], parts[0].actions)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Episode("fly to", 0), "go to, pick up, put next to"),
        (lambda: tokens("go to the moon"), "does not know moon"),
        (lambda: tokens("the " * (LENGTH + 1)), "at most 10 words, got 11"),
        (lambda: pictures(np.zeros((8, 8), np.uint8)), r"\(n, 8, 8\), got \(8, 8\)"),
        (lambda: pictures(np.full((1, 8, 8), 200, np.uint8)), "0 to 99, got 200"),
        (lambda: Episode("go to", 0).step(5), "0 to 4, got 5"),
        (lambda: roll_out(Policy(), []), "no episodes"),
        (lambda: held_out(0), "at least 1, got 0"),
        (lambda: held_out(4, first_seed=999_999), "got 999,999 to 1,000,000"),
        (lambda: held_out(4, first_seed=-1), "got -1 to 0"),
        (lambda: validation(0), "at least 1, got 0"),
        (
            lambda: compare(roll_out(Policy(), [("go to", 0)]), []),
            "same episodes in the same order",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_policy_has_its_four_parts_and_every_layer_can_be_quantized():
    policy = Policy()
    assert [name for name, _ in policy.named_children()] == [
        "vision",
        "language",
        "fusion",
        "action_head",
    ]
    parts = {name.split(".")[0] for name in quantizable_layers(policy)}
    assert parts == {"vision", "language", "fusion", "action_head"}
    quantized, report = quantize_model(policy, bits=8)
    inputs = torch.rand(2, 3, 64, 64), torch.ones(2, LENGTH, dtype=torch.int64)
    assert quantized(*inputs).shape == (2, len(ACTIONS))
    assert report.compression_ratio > 3.5


def test_an_expert_in_the_loop_succeeds_and_agrees_with_itself(demos):
    """The closed loop itself is at no fault: with the expert's actions every episode succeeds."""
    episodes = held_out(9)
    answers = {}
    for mission, seed in episodes:
        steps = collect(mission, [seed])
        answers |= {
            (room.tobytes(), words.tobytes()): int(action)
            for room, words, action in zip(
                pictures(steps.rooms), steps.words.astype(np.int64), steps.actions, strict=True
            )
        }

    def expert(images, words):
        rooms = (images.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
        chosen = [
            answers[room.tobytes(), sentence.tobytes()]
            for room, sentence in zip(rooms, words.numpy(), strict=True)
        ]
        return torch.eye(len(ACTIONS))[chosen]

    rollouts = roll_out(expert, episodes)
    assert success(rollouts).value == 1.0
    assert agreement(expert, rollouts) == 1.0
    assert all(departure(r, r) is None for r in rollouts)


def test_a_policy_that_turns_on_the_spot_loops_and_departs_where_it_first_differs():
    def always(action):
        return lambda images, words: torch.eye(len(ACTIONS))[action].expand(len(words), -1)

    episodes = held_out(6)
    left, right = roll_out(always(0), episodes), roll_out(always(1), episodes)
    for a, b in zip(left, right, strict=True):
        if a.end == "loop":
            assert len(a.actions) == 4 and len(a.rooms) == 5
        assert departure(a, b) == 0
    report = compare(left, right)
    assert report.n == 6 and report.difference == success(right).value - success(left).value
    assert agreement(always(1), left) == 0.0


def test_the_sentence_can_be_rewritten_while_the_mission_stays():
    read = []

    def note(images, words):
        read.append(words.clone())
        return torch.eye(len(ACTIONS))[0].expand(len(words), -1)

    (rollout,) = roll_out(note, [("go to", 0)], rewrite=lambda s: s.replace("green", "red"))
    assert Episode("go to", 0).mission == "go to the green ball"
    assert rollout.sentence == "go to the red ball"
    assert np.array_equal(read[0][0].numpy(), tokens("go to the red ball"))


def test_a_policy_stays_in_the_mode_it_was_in():
    policy = Policy().train()
    roll_out(policy, [("go to", 0)])
    assert policy.training and policy.vision.norm.training


def test_random_actions_go_on_where_they_have_been_before():
    episodes = held_out(30)
    stopped = roll_out(random_actions(), episodes)
    free = roll_out(random_actions(), episodes, stop_loops=False)
    assert "loop" in {r.end for r in stopped} and "loop" not in {r.end for r in free}
    late = [r for r in free if r.end == "time"]
    assert late and all(len(r.actions) == Episode(r.mission, r.seed).limit for r in late)
