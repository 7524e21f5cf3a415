"""How fast quantized models really run, next to float torch and to other quantizers, in one run.

    python benchmarks/engine_latency.py [--quick] [--only mlp_10m] [--peers FOLDER] [--json FILE]

Prints, for every model and batch size, each candidate's median and its ratio to float32 eager torch
with a 95 % interval, hot and cold; then who won, and whether the bounds hold. Peers that are not
installed are named. `--peers` is a folder of packages that this environment lacks (OpenVINO and
NNCF: `pip install --target FOLDER openvino nncf`). Takes about 4 minutes, `--quick` about one.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from engine_peers import all_peers
from torch import Tensor, nn

from labkit.data import load_mnist
from labkit.engine import Engine
from labkit.latency import LatencyReport, last_level_cache, measure_latency
from labkit.quantize import quantize_model
from labkit.zoo import mnist_cnn, mnist_mlp
from labkit.zoo_large import ten_million, transformer_10m

FLOAT = "32 bits · torch"
# Per channel where nothing else is said; the quantizers of ONNX Runtime choose per tensor. The last
# number says how many samples run together, so that what passes between layers stays in cache.
OURS = {
    "8 bits · labkit static": ("static", 8, "channel", None),
    "8 bits · labkit static per tensor": ("static", 8, "tensor", None),
    "8 bits · labkit static, 8 at once": ("static", 8, "channel", 8),
    "8 bits · labkit static per tensor, 12 at once": ("static", 8, "tensor", 12),
    "8 bits · labkit dynamic": ("dynamic", 8, "channel", None),
    "8 bits · labkit dynamic per tensor": ("dynamic", 8, "tensor", None),
    "8 bits · labkit weight-only": ("weight_only", 8, "channel", None),
    "4 bits · labkit weight-only": ("weight_only", 4, "channel", None),
    "4 bits · labkit dynamic": ("dynamic", 4, "channel", None),
    "2 bits · labkit weight-only": ("weight_only", 2, "channel", None),
}
# The largest ratio to float32 torch that our best candidate may have: {(model, batch, bits): …}.
BOUNDS = {("mlp_10m", 1, 8): 0.10, ("mlp_10m", 1, 4): 0.06, ("mlp_10m", 32, 8): 0.20}
# How much slower than the best peer ours may be: where that is ONNX Runtime, and elsewhere.
WITHIN_ORT, WITHIN_OTHERS = 1.05, 1.25


def images(count: int) -> Tensor:
    return load_mnist().train_images[:count]


def tokens(count: int) -> Tensor:
    return torch.randint(0, 1000, (count, 64), generator=torch.Generator().manual_seed(0))


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor]]] = {
    # Times do not depend on what the weights have learned.
    "mlp_10m": (lambda: ten_million(trained=False), images),
    "transformer_10m": (transformer_10m, tokens),
    "mlp_784_256_128_10": (mnist_mlp, images),
    "cnn": (mnist_cnn, images),
}


def candidates(model: nn.Module, data: Tensor, threads: int) -> tuple[dict, list[str]]:
    runs: dict[str, Callable[[Tensor], object]] = {FLOAT: model}
    for name, (method, bits, granularity, at_once) in OURS.items():
        calibration = data if method == "static" else None
        quantized, _ = quantize_model(
            model, method, bits=bits, granularity=granularity, calibration_data=calibration
        )
        runs[name] = Engine.of(quantized, data[:2], threads, at_once=at_once)
    peers, skipped = all_peers(model, data, threads)
    return runs | peers, skipped


def measured(runs: dict, x: Tensor, threads: int, seconds: float, cold: bool) -> LatencyReport:
    """As many rounds as fit into `seconds`, 5 to 40."""
    with torch.inference_mode():
        start = time.perf_counter()
        for run in runs.values():
            run(x)
        once = time.perf_counter() - start
    # Hot: untimed for some 5 ms, then timed; cold: an eviction (about 20 ms) and one call.
    a_round = 2 * once + (0.02 if cold else 0.005) * len(runs)
    rounds = max(5, min(40, int(seconds / a_round)))
    calls = {name: lambda run=run: run(x) for name, run in runs.items()}
    return measure_latency(calls, rounds=rounds, cold=cold, threads=threads)


def bits_of(name: str) -> int:
    return int(name.split()[0])


def best(report: LatencyReport, bits: int, ours: bool) -> str | None:
    rows = [r for r in report.rows if bits_of(r.name) == bits and ("labkit" in r.name) == ours]
    return min(rows, key=lambda row: row.median).name if rows else None


def judged(model: str, batch: int, report: LatencyReport) -> list[str]:
    """Bounds and peers, one line each."""
    lines = []
    state = "cold" if report.cold else "hot"
    for bits in (8, 4):
        mine, other = best(report, bits, True), best(report, bits, False)
        row = report[mine]
        bound = BOUNDS.get((model, batch, bits)) if not report.cold else None
        if bound:
            met = "met" if row.ratio <= bound else "MISSED"
            lines.append(
                f"{model}, batch {batch}, {bits} bits {state}: ratio {row.ratio:.3f} "
                f"({row.ratio_low:.3f} to {row.ratio_high:.3f}), at most {bound:.2f}: {met}"
            )
        if other:
            pair = report.compare(mine, other)
            most = WITHIN_ORT if "ONNX Runtime" in other else WITHIN_OTHERS
            met = "met" if pair.ratio <= most else "MISSED"
            if met == "MISSED" and pair.ratio_low <= most:
                met = "not resolved"
            lines.append(
                f"{model}, batch {batch}, {bits} bits {state}: {mine} / {other} = "
                f"{pair.ratio:.2f} ({pair.ratio_low:.2f} to {pair.ratio_high:.2f}), "
                f"at most {most:.2f}: {met}"
            )
    return lines


def table(model: str, batch: int, hot: LatencyReport, cold: LatencyReport) -> str:
    """Markdown: hot and cold side by side, the fastest of each marked."""
    fastest = [min(r.rows, key=lambda row: row.median).name for r in (hot, cold)]
    lines = [
        f"\n### {model}, batch {batch} "
        f"({hot.rounds} rounds hot, {cold.rounds} cold, load {hot.load:.1f})\n",
        "| candidate | hot: ms | ratio to float torch | cold: ms | ratio to float torch |",
        "|---|---|---|---|---|",
    ]
    for row in hot.rows:
        cells = [row.name]
        for report, winner in zip((hot, cold), fastest, strict=True):
            found = report[row.name]
            spread = f"{1e3 * found.median:.3g} ({1e3 * found.low:.3g} to {1e3 * found.high:.3g})"
            ratio = f"{found.ratio:.3f} ({found.ratio_low:.3f} to {found.ratio_high:.3f})"
            cells += [spread, f"**{ratio}**" if winner == row.name else ratio]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds, the MLPs only")
    parser.add_argument("--only", choices=MODELS, action="append", help="this model, repeatable")
    parser.add_argument("--threads", type=int, default=1, help="threads of every candidate")
    parser.add_argument("--seconds", type=float, help="for one table, hot or cold (default 6)")
    parser.add_argument("--peers", type=Path, help="folder with more packages (OpenVINO, NNCF)")
    parser.add_argument("--json", type=Path, help="write every number there, too")
    options = parser.parse_args()
    if options.peers:
        # Last, so that it only adds what is missing here.
        sys.path.append(str(options.peers))
    warnings.simplefilter("ignore")
    logging.getLogger("torch").setLevel(logging.ERROR)
    torch.set_num_threads(options.threads)
    names = options.only or (["mlp_10m", "mlp_784_256_128_10"] if options.quick else list(MODELS))
    seconds = options.seconds or (2 if options.quick else 6)
    start = time.perf_counter()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, last cache "
        f"{last_level_cache() / 2**20:.0f} MiB, torch {torch.__version__}, "
        f"{options.threads} thread(s), load {os.getloadavg()[0]:.1f}"
    )
    verdicts, numbers = [], {}
    for name in names:
        make, data = MODELS[name]
        runs, skipped = candidates(make(), data(64), options.threads)
        for reason in skipped:
            print(f"{name}: skipped {reason}")
        for batch in (1, 32):
            x = data(batch)
            hot, cold = (
                measured(runs, x, options.threads, seconds, cold) for cold in (False, True)
            )
            print(table(name, batch, hot, cold), flush=True)
            verdicts += judged(name, batch, hot) + judged(name, batch, cold)
            numbers[f"{name}, batch {batch}"] = {"hot": hot.as_dict(), "cold": cold.as_dict()}
    print("\n### Bounds\n")
    print("\n".join(verdicts))
    print(f"\ntook {time.perf_counter() - start:.0f} s")
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
