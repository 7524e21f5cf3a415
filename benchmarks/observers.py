"""What calibration costs: one more batch for each observer, next to torch's minimum and maximum.

    python benchmarks/observers.py [--rounds 200]

A batch of 64 × 256 activations, one thread. Every round shows it to every observer once, so that a
busy moment meets all of them; times are medians, ratios are to `torch.aminmax` in the same round.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np
import torch

from labkit.observers import OBSERVERS, make_observer

PEER = "torch.aminmax"


def measure(rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each round, by name."""
    x = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
    calls = {PEER: lambda: torch.aminmax(x)}
    for name in OBSERVERS:
        observer = make_observer(name)
        calls[name] = lambda observer=observer: observer.observe(x)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 5):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            taken = time.perf_counter() - start
            # The first rounds make the histograms and warm caches up.
            if number >= 5:
                times[name].append(taken)
    return {name: np.array(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200, help="rounds (default 200)")
    torch.set_num_threads(1)
    times = measure(parser.parse_args().rounds)
    print(f"{'one batch of 64 × 256':<24}{'median':>10}{'quartiles of the ratio':>36}")
    for name, values in times.items():
        low, middle, high = np.percentile(values / times[PEER], [25, 50, 75])
        median = 1e3 * float(np.median(values))
        print(f"{name:<24}{median:>7.3f} ms{middle:>18.1f} ({low:.1f} to {high:.1f})")
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"measured on {os.cpu_count()} processors, one thread{load}")


if __name__ == "__main__":
    main()
