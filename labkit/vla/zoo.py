"""The bundled robots: float policies of three training seeds, and packed ones of few bits.

Trained by `labkit.vla.train` and `labkit.vla.few_bits`; loading runs no code.
"""

from __future__ import annotations

from functools import partial

from torch import nn

from labkit.data import verified
from labkit.files import load
from labkit.vla.policy import Policy
from labkit.zoo import load_checkpoint, seeded

SEEDS = (0, 1, 2)
QUANTIZED = ("w3_qat", "w2_qat")
"""Trained with quantization from `robot(0)`: weights of 3 and of 2 bits."""


def checkpoint_name(seed: int) -> str:
    """Return the file of a training seed; ValueError for one that is not bundled.

    >>> checkpoint_name(1)
    'robot_seed1.safetensors'
    """
    if seed not in SEEDS:
        raise ValueError(f"the bundled robots have seeds {', '.join(map(str, SEEDS))}; got {seed}")
    return f"robot_seed{seed}.safetensors"


def robot(seed: int = 0, trained: bool = True) -> Policy:
    """Return the robot's policy in eval mode, of one of three training seeds, or untrained.

    Raises ValueError for another seed, and as `labkit.data.verified`.

    >>> robot(0, trained=False).action_head.out.weight.shape
    torch.Size([5, 128])
    """
    name = checkpoint_name(seed)
    policy = seeded(Policy, seed)
    if trained:
        load_checkpoint(policy, verified(name))
    return policy


def vla_10m() -> Policy:
    """Return a policy of ten million parameters (40 MB in float32) in eval mode: *untrained*.

    For sizes and times, which do not depend on what the weights have learned.

    >>> sum(p.numel() for p in vla_10m().parameters())
    10061707
    """
    return seeded(partial(Policy, width=320, language=256, reading=4, films=5))


def robot_quantized(name: str) -> nn.Module:
    """Return a bundled robot that was trained with quantization, "w3_qat" or "w2_qat".

    Raises ValueError for another name, and as `labkit.data.verified`.

    >>> robot_quantized("w9")
    Traceback (most recent call last):
    ...
    ValueError: the bundled quantized robots are w3_qat, w2_qat; got 'w9'
    """
    if name not in QUANTIZED:
        raise ValueError(f"the bundled quantized robots are {', '.join(QUANTIZED)}; got {name!r}")
    return load(verified(f"robot_{name}.safetensors"), seeded(Policy))
