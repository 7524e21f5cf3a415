"""The moment at which two robots part: the room, what each wanted there, and what followed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch

from labkit.explorers.panel import Panel, choice, int_slider, steps_slider
from labkit.explorers.robot_films import FLOAT, frame, width_name
from labkit.explorers.robot_runs import Robot, play_all, played, policy
from labkit.explorers.scene import Axis, Bars, Mark, Photo, Plot, Readout, Scene, Text
from labkit.explorers.two_robots import ACTIONS, SAID
from labkit.threads import one_thread
from labkit.unpacked import unpacked
from labkit.vla.env import pictures, tokens
from labkit.vla.rollout import Rollout, departure

WIDTHS = (6, 4, 3, 2)
SURE = 0.7
"""From which share on the robot counts as sure of an action."""
STRIP = 6
"""How many rooms are shown after the parting."""
KINDS = {"failed": False, "arrived": True}
"""What followed → whether the mission was fulfilled after all."""


@dataclass(frozen=True)
class State:
    """Bits of a weight, which of the partings (from 1), and what followed, one of `KINDS`.

    >>> State().followed
    'failed'
    """

    bits: int = 3
    case: int = 1
    followed: str = "failed"


def partings(bits: int, followed: str) -> list[tuple[Rollout, Rollout, int]]:
    """Return (float, of these bits, step from 0) of the episodes in which they part.

    Only those in which the float robot arrived, and the other one as `followed` says.
    """
    pairs = zip(played(), played(Robot(bits)), strict=True)
    found = ((one, other, departure(one, other)) for one, other in pairs)
    return [
        (one, other, step)
        for one, other, step in found
        if step is not None and one.success and other.success == KINDS[followed]
    ]


@cache
@one_thread()
def sureness(bits: int, followed: str) -> tuple[float, ...]:
    """Return how sure the robot of these bits was of what it did, at each parting, in 0..1."""
    cases = partings(bits, followed)
    if not cases:
        return ()
    tiles = np.stack([other.rooms[step] for _, other, step in cases])
    seen = torch.from_numpy(pictures(tiles)).permute(0, 3, 1, 2).float() / 255
    words = torch.from_numpy(np.stack([tokens(one.sentence) for one, _, _ in cases]))
    model = policy(Robot(bits))
    with torch.no_grad(), unpacked(model):
        shares = model(seen, words).double().softmax(1)
    return tuple(shares.amax(1).tolist())


def telling(bits: int, followed: str) -> int:
    """Return the parting, from 1, at which the robot was surest; 1 where there is none."""
    shares = sureness(bits, followed)
    return 1 + max(range(len(shares)), key=shares.__getitem__, default=0)


@lru_cache(maxsize=1024)
@one_thread()
def wanted(bits: int, room: bytes, sentence: str) -> tuple[float, ...]:
    """Return how sure the robot is of each action in a room of 64 tiles: (5,), of sum 1."""
    tiles = torch.frombuffer(bytearray(room), dtype=torch.uint8).view(1, 8, 8).numpy()
    seen = torch.from_numpy(pictures(tiles)).permute(0, 3, 1, 2).float() / 255
    model = policy(Robot(bits))
    with torch.no_grad(), unpacked(model):
        scores = model(seen, torch.from_numpy(tokens(sentence))[None])
    return tuple(scores[0].double().softmax(0).tolist())


def controls() -> dict[str, Any]:
    """Width, what followed, which parting."""
    followed = [("it failed", "failed"), ("it arrived all the same", "arrived")]
    return {
        "bits": steps_slider("bits", WIDTHS),
        "case": int_slider("parting", 1, 1, tooltip="One episode after another"),
        "followed": choice("what followed", followed),
    }


def limits(state: State) -> dict[str, dict[str, Any]]:
    """As many partings as there are."""
    return {"case": {"max": max(len(partings(state.bits, state.followed)), 1)}}


def scene(state: State) -> Scene:
    """Draw the room, both robots' wishes, and the rooms that followed."""
    cases, name = partings(state.bits, state.followed), width_name(state.bits)
    if not cases:
        return Scene(
            f"{name}: in no episode of these",
            [Plot([Text(0.5, 0.5, "choose fewer bits", "muted", size=16)], height=452)],
            readouts=[Readout("partings", 0, "", "measured")],
            formulas=["no parting, nothing to be sure of"],
        )
    one, other, step = cases[min(state.case, len(cases)) - 1]
    room = other.rooms[step].tobytes()
    wishes = {bits: wanted(bits, room, one.sentence) for bits in (FLOAT, state.bits)}
    did = [ACTIONS[r.actions[step]][0] for r in (one, other)]
    said, role = SAID[other.end]
    sure = sureness(state.bits, state.followed)
    return Scene(
        f"Mission: {one.sentence}",
        [[_room(room, step), _wishes(state, wishes)], _strip(other, step)],
        readouts=[
            Readout("parting", f"{min(state.case, len(cases))} of {len(cases)}", "", "measured"),
            Readout("float would", did[0], "", "measured", "float"),
            Readout(f"{name} did", did[1], "", "measured", "quantized"),
            Readout("sure of it", f"{100 * max(wishes[state.bits]):.0f}", "%", "computed"),
            Readout("what followed", said, "", "measured", role),
        ],
        formulas=[
            f"of {len(cases)} partings after which it {state.followed}, the robot of {name} was "
            f"more than {100 * SURE:.0f} % sure in {sum(share > SURE for share in sure)} (computed)"
        ],
        description=(
            "Left, the room where the two robots first do something else; right, how sure each "
            "robot is of every action there; below, the rooms that the quantized robot came to."
        ),
    )


def explorer(**fields: Any) -> Panel:
    """Return the live panel; `fields` are those of `State`. Plays what was not played yet.

    Without a `case` it starts at the parting at which the robot was surest.
    """
    play_all([Robot(), *map(Robot, WIDTHS)])
    state = State(**fields)
    if "case" not in fields:
        state = replace(state, case=telling(state.bits, state.followed))
    return Panel(state, controls(), scene, limits=limits)


def _room(room: bytes, step: int) -> Plot:
    x = Axis("", -0.35, 8.35, show=False)
    photo = Photo(frame(room), 0, 8, 0, 8, sharp=False)
    return Plot([photo], x, Axis("", 0, 8, show=False), f"step {step + 1}, both are here", 290, 0.8)


def _wishes(state: State, wishes: dict[int, tuple[float, ...]]) -> Plot:
    """How sure both are of each action, side by side."""
    marks: list[Mark] = []
    for i, (bits, shares) in enumerate(wishes.items()):
        role = "float" if i == 0 else "quantized"
        tips = [
            f"{width_name(bits)}: {word} {100 * share:.1f} %"
            for (word, _), share in zip(ACTIONS, shares, strict=True)
        ]
        at = [a + (-0.2 if i == 0 else 0.2) for a in range(len(ACTIONS))]
        heights = [100 * share for share in shares]
        marks.append(Bars(at, heights, 0.36, role, width_name(bits), tips=tips))
    labels = [f"{sign} {word}" for word, sign in ACTIONS]
    x = Axis("", -0.6, 4.6, ticks=range(5), labels=labels)
    return Plot(marks, x, Axis("how sure", 0, 103, "%"), "what each wants to do", 290, 1.2)


def _strip(other: Rollout, step: int) -> list[Plot]:
    """The rooms that followed, the last one with how it ended."""
    plots = []
    for i in range(1, STRIP + 1):
        at = step + i
        if at >= len(other.rooms):
            plots.append(Plot([], title="", height=150))
            continue
        sign, last = ACTIONS[other.actions[at - 1]][1], at == len(other.rooms) - 1
        marks: list[Mark] = [Photo(frame(other.rooms[at].tobytes()), 0, 1, 0, 1, sharp=False)]
        if last:
            said, role = SAID[other.end]
            marks.append(Text(0.5, 0.06, said, role, size=13, bold=True, dy=4))
        plots.append(Plot(marks, title=f"{sign} step {at}", height=150, grid="none"))
    return plots
