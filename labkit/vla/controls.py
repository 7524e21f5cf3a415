"""What the robot's success is compared with: no policy at all, and sentences that say otherwise.

A robot that succeeds as often when it is told the wrong colour has not read the sentence.
"""

from __future__ import annotations

import torch
from torch import Tensor

from labkit.vla.env import ACTIONS, COLOURS, KINDS
from labkit.vla.rollout import Actor


def random_actions(seed: int = 0) -> Actor:
    """Return a policy that takes each action equally often, whatever it sees.

    >>> random_actions()(torch.zeros(2, 3, 64, 64), torch.zeros(2, 10, dtype=torch.int64)).shape
    torch.Size([2, 5])
    """
    random = torch.Generator().manual_seed(seed)

    def act(pictures: Tensor, words: Tensor) -> Tensor:
        return torch.rand(len(words), len(ACTIONS), generator=random)

    return act


def other_colours(sentence: str) -> str:
    """Replace every colour by another one; sentences without a colour stay as they are.

    >>> other_colours("put the red ball next to a grey key")
    'put the green ball next to a red key'
    """
    return _replaced(sentence, COLOURS)


def other_kinds(sentence: str) -> str:
    """Replace every kind of thing by another one; "object" is no kind.

    >>> other_kinds("put the red ball next to a grey key")
    'put the red box next to a grey ball'
    """
    return _replaced(sentence, KINDS)


def _replaced(sentence: str, words: tuple[str, ...]) -> str:
    following = dict(zip(words, (*words[1:], words[0]), strict=True))
    return " ".join(following.get(word, word) for word in sentence.split())
