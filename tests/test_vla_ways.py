"""labkit/vla/ways.py: what is right from every cell, judged by the room and by the expert."""

from collections import deque

import numpy as np
import pytest

from labkit.vla.demos import Demos, collect, turned
from labkit.vla.env import ACTIONS, FLAVOURS, MISSIONS, Episode
from labkit.vla.ways import shortest_ways

STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))


@pytest.fixture(scope="module")
def demos():
    return Demos.joined(collect(m, range(1_000_000, 1_000_012)) for m in MISSIONS)


@pytest.fixture(scope="module")
def ways(demos):
    return shortest_ways(demos)


def where_it_stands(room):
    (y,), (x,) = np.nonzero(room >= FLAVOURS)
    return int(room[y, x]) // FLAVOURS - 1, int(y), int(x)


@pytest.mark.parametrize("mission", ["go to", "pick up"])
def test_whoever_takes_any_right_move_gets_there(mission):
    choice = np.random.default_rng(0)
    for seed in range(1_000_020, 1_000_030):
        first = collect(mission, [seed])[:1]
        episode = Episode(mission, seed)
        for _ in range(40):
            here = Demos(
                episode.tiles()[None], first.words, first.actions, first.targets, first.episodes
            )
            facing, y, x = where_it_stands(here.rooms[0])
            now = shortest_ways(here)
            if now.known[0, facing, y, x]:
                action = choice.choice(np.flatnonzero(now.moves[0, :, facing, y, x]))
            else:
                action = ACTIONS.index("pick up")
            episode.step(int(action))
            if episode.done:
                break
        assert episode.success


def test_a_right_move_saves_a_step_and_no_other_does(demos, ways):
    # The steps to go, by a search of its own from every place to the goal.
    row = 0
    room, target = demos.rooms[row] % FLAVOURS, demos.targets[row, 0]
    _, y, x = where_it_stands(demos.rooms[row])
    room[y, x] = 0

    def after(facing, y, x, move):
        if move < 2:
            return (facing + (-1, 1)[move]) % 4, y, x
        ahead = y + STEPS[facing][0], x + STEPS[facing][1]
        return (facing, *ahead) if room[ahead] == 0 else None

    def steps_to_go(start):
        seen, queue = {start}, deque([(start, 0)])
        while queue:
            place, steps = queue.popleft()
            ahead = place[1] + STEPS[place[0]][0], place[2] + STEPS[place[0]][1]
            if target[ahead]:
                return steps
            for move in range(3):
                then = after(*place, move)
                if then is not None and then not in seen:
                    seen.add(then)
                    queue.append((then, steps + 1))
        return None

    assert demos.words[row, 0] == 1 and ways.known[row].any()
    for facing, y, x in np.argwhere(ways.known[row]).tolist():
        steps = steps_to_go((facing, y, x))
        for move in range(3):
            then = after(facing, y, x, move)
            saves = then is not None and steps_to_go(then) == steps - 1
            assert ways.moves[row, move, facing, y, x] == saves


def test_the_experts_own_action_is_always_right(demos, ways):
    assert ways.actions[np.arange(len(demos)), demos.actions].all()


def test_nearly_every_move_of_the_expert_leads_nearer(demos, ways):
    moving = demos.actions < 3
    places = [where_it_stands(room) for room in demos.rooms]
    nearer = [ways.moves[i, demos.actions[i], *places[i]] for i in np.flatnonzero(moving)]
    assert np.mean(nearer) > 0.98


def test_where_it_picks_up_or_drops_nothing_else_is_right(demos, ways):
    acting = demos.actions >= 3
    assert acting.any() and (ways.actions[acting].sum(1) == 1).all()


def test_nothing_is_asked_in_walls_and_where_things_stand(demos, ways):
    occupied = (demos.rooms > 0) & (demos.rooms < FLAVOURS)
    assert not ways.known[np.broadcast_to(occupied[:, None], ways.known.shape)].any()


def test_in_the_mirror_left_is_right(demos, ways):
    mirrored = shortest_ways(turned(demos, 0, True))
    swapped = ways.moves[:, [1, 0, 2]][:, :, [2, 1, 0, 3]][..., ::-1]
    known = ways.known[:, [2, 1, 0, 3]][..., ::-1]
    assert np.array_equal(mirrored.known, known)
    assert np.array_equal(mirrored.moves & known[:, None], swapped & known[:, None])
    assert np.array_equal(mirrored.actions, ways.actions[:, [1, 0, 2, 3, 4]])
