"""How fast one tensor is quantized, next to torch and torchao, in one run.

    python benchmarks/one_tensor.py

Prints medians, the ratio of each pair with its spread over interleaved rounds, and peak memory.
Targets: fake_quantize at most 0.6 of torch's fused operator on 16 million float32 values; a
4096×4096 matrix in groups of 32 no slower than torchao's affine primitives, with a peak of at most
three times the tensor.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from labkit.affine import choose_qparams, fake_quantize, quantize

ROUNDS = 15


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def compare(name: str, mine: Callable, other: Callable, target: float) -> None:
    """Time both in turn, so that a busy moment of the machine meets both."""
    mine(), other()
    pairs = [(seconds(mine), seconds(other)) for _ in range(ROUNDS)]
    ratios = sorted(a / b for a, b in pairs)
    quarter = len(ratios) // 4
    print(
        f"{name}: labkit {1e3 * statistics.median(a for a, _ in pairs):.0f} ms, "
        f"other {1e3 * statistics.median(b for _, b in pairs):.0f} ms, "
        f"ratio {statistics.median(ratios):.2f} "
        f"(quartiles {ratios[quarter]:.2f} to {ratios[-1 - quarter]:.2f}, "
        f"{ROUNDS} rounds; target at most {target})"
    )


def labkit_groups(matrix: torch.Tensor) -> torch.Tensor:
    return quantize(matrix, choose_qparams(matrix, 4, group_size=32))


def torchao_groups(matrix: torch.Tensor) -> torch.Tensor:
    # torchao complains about extensions that it does not need here.
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    from torchao.quantization.quant_primitives import (
        MappingType,
        choose_qparams_affine,
        quantize_affine,
    )

    block = (1, 32)
    scale, zero_point = choose_qparams_affine(
        matrix, MappingType.ASYMMETRIC, block, torch.uint8, 0, 15
    )
    return quantize_affine(matrix, block, scale, zero_point, torch.uint8, 0, 15)


GROUPED = {"labkit": labkit_groups, "torchao": torchao_groups}


def peak(name: str) -> None:
    """Print the peak of this process over its size before, in sizes of the tensor (Linux only)."""
    GROUPED[name](torch.randn(64, 64))
    matrix = torch.randn(4096, 4096)
    # Resets the high-water mark, which the imports have driven up.
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    GROUPED[name](matrix)
    print(f"{(memory('VmHWM') - before) / (matrix.numel() * 4):.2f}")


def memory(field: str) -> int:
    """Bytes of a field of Linux's process status."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(f"{field}:")[1].split()[0])


def peak_of(name: str) -> float:
    """Measure in a process of its own: memory that was used and freed before would hide it."""
    command = [sys.executable, __file__, "--peak", name]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(run.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2, help="threads for torch (default 2)")
    parser.add_argument("--peak", choices=GROUPED, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        peak(options.peak)
        return
    generator = torch.Generator().manual_seed(0)

    x = torch.randn(16_000_000, generator=generator)
    whole = choose_qparams(x)
    scale, zero_point = whole.scale.item(), whole.zero_point.item()
    compare(
        "fake_quantize, 16 million values, per tensor, against torch's fused operator",
        lambda: fake_quantize(x, whole),
        lambda: torch.fake_quantize_per_tensor_affine(x, scale, zero_point, 0, 255),
        0.6,
    )

    rows = x.reshape(4000, 4000)
    channels = choose_qparams(rows, axis=0)
    scales, zero_points = channels.scale.flatten(), channels.zero_point.flatten()
    compare(
        "fake_quantize, 4000 × 4000, per channel, against torch's fused operator",
        lambda: fake_quantize(rows, channels),
        lambda: torch.fake_quantize_per_channel_affine(rows, scales, zero_points, 0, 0, 255),
        0.6,
    )

    matrix = torch.randn(4096, 4096, generator=generator)
    compare(
        "quantize, 4096 × 4096 in groups of 32, 4 bits, against torchao",
        lambda: labkit_groups(matrix),
        lambda: torchao_groups(matrix),
        1.0,
    )
    print(
        f"peak memory of that, the tensor included: labkit {1 + peak_of('labkit'):.2f} times the "
        f"tensor, torchao {1 + peak_of('torchao'):.2f} (target at most 3)"
    )


if __name__ == "__main__":
    main()
