"""labkit/vla/controls.py: other words, and no policy at all."""

import torch

from labkit.vla.controls import other_colours, other_kinds, random_actions
from labkit.vla.env import COLOURS, KINDS, MISSIONS, WORDS, Episode, tokens
from labkit.vla.rollout import held_out, roll_out, success


def test_only_the_colours_or_only_the_kinds_change():
    for mission in MISSIONS:
        for seed in range(20):
            sentence = Episode(mission, seed).mission
            for change, words in ((other_colours, COLOURS), (other_kinds, KINDS)):
                pairs = list(zip(sentence.split(), change(sentence).split(), strict=True))
                assert all((a != b) == (a in words) for a, b in pairs)
                assert all(b in words for a, b in pairs if a in words)


def test_the_robot_knows_the_other_words():
    for change, words in ((other_colours, COLOURS), (other_kinds, KINDS)):
        for word in words:
            assert tokens(change(f"go to the {word}"))[3] in map(WORDS.index, words)


def test_random_actions_are_the_same_each_time_and_equally_often():
    empty = torch.zeros(5000, 1), torch.zeros(5000, 1)
    first, again = random_actions(3)(*empty), random_actions(3)(*empty)
    assert torch.equal(first, again)
    counts = first.argmax(1).bincount(minlength=5)
    # Five standard deviations of a count of 5000 draws at 1/5.
    assert (counts - 1000).abs().max() < 5 * (5000 * 0.2 * 0.8) ** 0.5


def test_random_actions_seldom_succeed():
    assert success(roll_out(random_actions(), held_out(60), stop_loops=False)).value < 0.5
