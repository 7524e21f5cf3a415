"""How good a policy is: success in closed loop, for all that takes `evaluate=`.

For choosing widths, `labkit.divergence.MinusDivergence` on `calibration_batches` is faster and
tells more policies apart; success is what counts, and judges the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tqdm import tqdm

from labkit.checks import check_whole
from labkit.evaluate import Accuracy
from labkit.threads import one_thread
from labkit.vla.batches import calibration_batches, imitation_batches
from labkit.vla.rollout import Actor, Rollout, held_out, roll_out, success

__all__ = [
    "ClosedLoop",
    "calibration_batches",
    "imitation_batches",
    "roll_out_many",
]


@dataclass(frozen=True)
class ClosedLoop:
    """Success over episodes that training never sees: call it with a policy, get an `Accuracy`.

    episodes: how many of `labkit.vla.rollout.held_out`, or (mission, seed) pairs. Every policy
    plays the same rooms. Raises ValueError for less than one episode.

    >>> import torch
    >>> always_left = lambda pictures, words: torch.eye(5)[0].expand(len(words), 5)
    >>> print(ClosedLoop([("put next to", 0), ("put next to", 1)])(always_left))
    0.0 % [0.0, 65.8] of 2 (measured)
    """

    episodes: int | Sequence[tuple[str, int]] = 600

    def __post_init__(self) -> None:
        """Write down which episodes these are."""
        given = self.episodes
        if isinstance(given, Iterable):
            pairs = [(mission, int(seed)) for mission, seed in given]
        else:
            pairs = held_out(check_whole("episodes", given))
        if not pairs:
            raise ValueError(
                "there are no episodes to play; give a number or (mission, seed) pairs"
            )
        object.__setattr__(self, "episodes", tuple(pairs))

    def __call__(self, policy: Actor) -> Accuracy:
        """Let `policy` play; return its success with the Wilson interval."""
        return success(self.rollouts(policy))

    def rollouts(self, policy: Actor) -> list[Rollout]:
        """Return what happened in each episode, in order."""
        return roll_out(policy, self.episodes)


def roll_out_many(
    policies: Mapping[str, Actor],
    episodes: int | Sequence[tuple[str, int]] | ClosedLoop = 600,
    *,
    n_jobs: int = 1,
    progress: bool = False,
) -> dict[str, list[Rollout]]:
    """Let every policy play the same episodes; return {name: rollouts} in the order given.

    `episodes` as in `ClosedLoop`. `n_jobs` processes of joblib share the policies, on one machine
    or, with `joblib.parallel_config`, on a cluster; each plays in one thread, so that the results
    do not depend on who played. `progress` shows a bar when it takes more than two seconds. Raises
    ValueError for no policies, and as `labkit.vla.rollout.roll_out`.

    >>> import torch
    >>> def turning(pictures, words):
    ...     return torch.eye(5)[0].expand(len(words), 5)
    >>> {name: rollouts[0].end for name, rollouts in roll_out_many({"turning": turning}, 1).items()}
    {'turning': 'loop'}
    """
    if not policies:
        raise ValueError("there are no policies to play; give {name: policy}")
    closed_loop = episodes if isinstance(episodes, ClosedLoop) else ClosedLoop(episodes)
    # Imported here, as it is slow to import and a first picture must not wait.
    from joblib import Parallel, delayed

    runs = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_alone)(policy, closed_loop) for policy in policies.values()
    )
    hidden = None if progress else True
    bar = tqdm(runs, "policies at play", len(policies), delay=2, leave=False, disable=hidden)
    return dict(zip(policies, bar, strict=True))


def _alone(policy: Actor, closed_loop: ClosedLoop) -> list[Rollout]:
    with one_thread():
        return closed_loop.rollouts(policy)
