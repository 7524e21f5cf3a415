"""labkit/vla/pupil.py: what is asked of the policy while it learns, and what stays of it."""

import torch
from torch.nn import functional

from labkit.vla.demos import Demos, collect
from labkit.vla.policy import Policy
from labkit.vla.pupil import Pupil, any_of, imitation_loss, lesson
from labkit.vla.zoo import robot
from labkit.zoo import seeded


def test_where_one_thing_is_right_it_is_the_cross_entropy():
    logits = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    right = torch.arange(7) % 5
    asked = functional.one_hot(right, 5).bool()
    wanted = functional.cross_entropy(logits, right, reduction="none")
    assert torch.allclose(any_of(logits, asked), wanted)


def test_between_right_things_nothing_pulls():
    logits = torch.tensor([[30.0, -30.0, -90.0]], requires_grad=True)
    any_of(logits, torch.tensor([[True, True, False]])).sum().backward()
    assert logits.grad.abs().max() < 1e-6


def test_gradients_are_finite_where_nothing_is_right():
    demos = collect("go to", [1_000_000])
    pupil = seeded(lambda: Pupil(width=8, language=8, reading=1, films=1)).train()
    inputs, asked = lesson(demos)
    assert not asked[2].any(1).all()
    imitation_loss(pupil(*inputs), asked, 1.0).backward()
    assert all(torch.isfinite(p.grad).all() for p in pupil.parameters())


def test_what_it_learned_is_the_policy_alone():
    pupil, policy = seeded(Pupil).eval(), Policy().eval()
    policy.load_state_dict(pupil.learned())
    inputs, _ = lesson(Demos.joined([collect("go to", [1_000_000])]))
    with torch.no_grad():
        assert torch.equal(policy(*inputs), pupil(*inputs)[0])


def test_it_starts_from_the_weights_of_the_untrained_robot():
    learned, untrained = seeded(Pupil, 1).learned(), robot(1, trained=False).state_dict()
    assert all(torch.equal(learned[name], untrained[name]) for name in untrained)
