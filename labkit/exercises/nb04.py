"""Exercises of notebook 04: a scale for every channel or group, lost channels, equalization."""

from __future__ import annotations

import torch
from torch import Tensor

from labkit.exercises import cases04, wrong04
from labkit.exercises.core import Exercise


def channel_scales(weight: Tensor, bits: int) -> Tensor:
    """(out, ...) → (out,): the symmetric scale of each output channel; 1 for a channel of zeros."""
    largest = weight.flatten(1).abs().amax(1)
    scale = largest / (2 ** (bits - 1) - 1)
    return torch.where(largest > 0, scale, 1.0)


def by_groups(weight: Tensor, bits: int, group_size: int) -> Tensor:
    """(out, in) → (out, in): what is left when each group in a row has its own symmetric scale."""
    groups = weight.reshape(-1, group_size)
    top = 2 ** (bits - 1) - 1
    scale = groups.abs().amax(1, keepdim=True) / top
    return ((groups / scale).round().clamp(-top, top) * scale).reshape(weight.shape)


def lost_channels(weight: Tensor, bits: int) -> int:
    """How many channels of (out, ...) hold a weight, but only zeros on one grid for the tensor."""
    scale = weight.abs().max() / (2 ** (bits - 1) - 1)
    had = weight.flatten(1).any(1)
    has = (weight / scale).round().flatten(1).any(1)
    return int((had & ~has).sum())


def equalize_pair(w1: Tensor, b1: Tensor, w2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(w1, b1, w2) of two linear layers with a ReLU between, ranges shared out; same function."""
    r1, r2 = w1.abs().amax(1), w2.abs().amax(0)
    s = torch.where((r1 > 0) & (r2 > 0), (r1 / r2).sqrt(), 1.0)
    return w1 / s[:, None], b1 / s, w2 * s


EXERCISES = (
    Exercise(
        id="4.1",
        title="A scale for every channel",
        difficulty=1,
        minutes=6,
        hints=(
            "Which weights belong to one output channel of a (out, in, 3, 3) kernel?",
            "Flatten everything behind the first axis, take the largest magnitude of each row, "
            "divide by the largest code.",
            "largest = weight.flatten(1).abs().amax(1), divided by 2**(bits - 1) - 1; torch.where "
            "puts a 1 where largest is 0.",
        ),
        cases=cases04.scale_cases,
        solution=channel_scales,
        praise="Four bytes a channel, and no channel can spoil the grid of another.",
        wrong=wrong04.SCALES,
    ),
    Exercise(
        id="4.2",
        title="A scale for every group",
        difficulty=2,
        minutes=8,
        hints=(
            "In which direction do the neighbours of a group lie: along a row or down a column?",
            "reshape(-1, group_size) makes every group a row; scale and round each row; reshape "
            "back.",
            "groups = weight.reshape(-1, group_size); scale = groups.abs().amax(1, keepdim=True) / "
            "top; (groups / scale).round() * scale, in the shape of weight.",
        ),
        cases=cases04.group_cases,
        solution=by_groups,
        praise="That is how 4-bit language models are stored, with groups of 32 to 128.",
        wrong=wrong04.GROUPS,
    ),
    Exercise(
        id="4.3",
        title="Channels that are lost",
        difficulty=2,
        minutes=8,
        hints=(
            "How large may a weight be and still round to 0?",
            "One scale for the whole tensor; look at the codes of each channel. Channels that "
            "were all zero before have lost nothing.",
            "codes = (weight / scale).round(); count the rows where weight.flatten(1).any(1) and "
            "not codes.flatten(1).any(1).",
        ),
        cases=cases04.lost_cases,
        solution=lost_channels,
        praise="One number that finds a broken layer without any data.",
        wrong=wrong04.LOST,
    ),
    Exercise(
        id="4.4",
        title="Share out the ranges",
        difficulty=3,
        minutes=12,
        hints=(
            "Which numbers belong to channel c: which row of w1, which element of b1, which "
            "column of w2?",
            "Divide the first layer's part by s and multiply the second's by s. Both ranges agree "
            "when r1 / s = r2 · s.",
            "s = (r1 / r2).sqrt() with r1 = w1.abs().amax(1) and r2 = w2.abs().amax(0), 1 where "
            "either is 0; return w1 / s[:, None], b1 / s, w2 * s.",
        ),
        cases=cases04.equalize_cases,
        solution=equalize_pair,
        praise="labkit.transform.equalize does this over whole networks, until nothing moves.",
        wrong=wrong04.EQUALIZE,
    ),
)
