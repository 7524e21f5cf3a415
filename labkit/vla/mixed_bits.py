"""The robot with a width of its own for each layer, in no more bytes than 3 bits for all of them.

    python -m labkit.vla.mixed_bits        # chooses and stores them again, minutes of one core

What a layer minds is how far the actions' probabilities move when it alone is rounded, on rooms of
the expert (`labkit.divergence`). The widths are the exact optimum of the sum. Then each weight is
rounded up or down as its layer's output asks (`labkit.rounding`), which costs no byte. Success in
closed loop has no say in the choice; it judges afterwards.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from labkit.data import record, verified
from labkit.divergence import MinusDivergence
from labkit.files import load, save
from labkit.mixed import allocate_bits, widths_of
from labkit.quantize import quantize_model
from labkit.rounding import learn_rounding
from labkit.sensitivity import measure_sensitivity
from labkit.vla.batches import calibration_batches
from labkit.vla.policy import Policy
from labkit.vla.zoo import robot
from labkit.zoo import seeded

NAME = "robot_w3_mixed.safetensors"
COMMAND = "python -m labkit.vla.mixed_bits"
WIDTHS = (2, 3, 4, 6, 8)
STEPS = 1024
"""Steps of the expert that are looked at for the widths."""
ROUNDING_STEPS = 512
"""Steps of the expert that rounding is learned on."""


def robot_mixed() -> nn.Module:
    """Return the bundled robot of mixed widths; raises as `labkit.data.verified`.

    >>> robot_mixed().action_head.out.bits > 2
    True
    """
    return load(verified(NAME), seeded(Policy))


def choose_widths(
    policy: nn.Module,
    as_small_as: int = 3,
    steps: int = STEPS,
    *,
    n_jobs: int = 1,
    progress: bool = False,
) -> dict[str, int]:
    """Return layer → bits, together in no more bytes than `as_small_as` bits for all layers."""
    quality = MinusDivergence(policy, calibration_batches(steps))
    table = measure_sensitivity(policy, quality, WIDTHS, n_jobs=n_jobs, progress=progress)
    _, report = quantize_model(policy, bits=as_small_as)
    limit = ("bytes", table.bytes, report.quantized_bytes - table.other_bytes)
    return dict(widths_of(table, allocate_bits(table.loss, [limit])))


def in_mixed_widths(
    policy: nn.Module, widths: Mapping[str, int], steps: int = ROUNDING_STEPS
) -> nn.Module:
    """Return `policy` in these widths, layer → bits, its rounding learned on steps of the expert.

    Raises as `labkit.quantize.quantize_model` and `labkit.rounding.learn_rounding`.
    """
    nearest, _ = quantize_model(policy, bits=dict(widths))
    return learn_rounding(nearest, policy, calibration_batches(steps))


def store(folder: Path | None = None, *, n_jobs: int = 2, progress: bool = True) -> Path:
    """Choose the widths of `robot()` and replace the bundled file and its entry."""
    widths = choose_widths(robot(), n_jobs=n_jobs, progress=progress)
    quantized = in_mixed_widths(robot(), widths)
    with tempfile.TemporaryDirectory() as draft:
        path = Path(draft) / NAME
        save(quantized, path)
        return record(NAME, path.read_bytes(), COMMAND, folder, widths=widths)


if __name__ == "__main__":
    stored = store()
    print(f"{stored}: {stored.stat().st_size:,} bytes")
