"""The planner on the robot: is its prediction any good, and do the document's two cases hold?

    python benchmarks/planner.py [--episodes 600] [--plans 60] [--jobs 2] [--only prediction]

1. prediction  60 random plans and 30 of the best predicted ones, measured in closed loop on
               episodes that judge nothing else: Spearman's rank correlation, the margin it asks for
2. mixed       a plan of no more tensor bytes than uniform 3 bits per channel, step by step
3. edge        the document's case 1: 40 MB, 8 bits, at most 50 % of the compute, 3 points; it
               reports 75 % fewer bytes, 60 % less time, 3 points lost
4. latency     the document's case 2: 1000 ms → under 200 ms, as a share of time; it reports 85 %
               less time, 3 points lost

Times and sizes are those of `labkit.vla.zoo.vla_10m`, which is not trained; successes those of
`robot`, of the same architecture. Every time is a median of 30 rounds, one thread, batch 1, as a
ratio to float32 in PyTorch and to float32 on the same engine. Exit status 1 unless the rank
correlation is at least 0.9, the mixed plan holds 95 % and case 1 is met. About 15 minutes of one
core.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace

import numpy as np
import torch

from labkit.divergence import MinusDivergence
from labkit.features import ModelFeatures, encode_model
from labkit.mixed import allocate_bits, widths_of
from labkit.planner import Infeasible, plan_quantization
from labkit.prediction import Prediction, best_plans, check_prediction, random_plans
from labkit.quantize import quantize_model
from labkit.verification import file_bytes, time_models
from labkit.vla.evaluate import ClosedLoop, calibration_batches
from labkit.vla.policy import Policy
from labkit.vla.rollout import held_out
from labkit.vla.zoo import robot, vla_10m

# Episodes that check the prediction lie so far behind those that judge.
OTHER_SEEDS = 10_000


def prediction(model: Policy, features: ModelFeatures, plans: int, jobs: int) -> Prediction:
    """Measure random and best predicted plans; print how good the prediction is."""
    loop = ClosedLoop([(mission, seed + OTHER_SEEDS) for mission, seed in held_out(300)])
    drawn, best = random_plans(features, plans), best_plans(features, plans // 2)
    start = time.perf_counter()
    here = encoded_with(features, loop(model))
    checked = [
        check_prediction(model, here, loop, plans=choices, n_jobs=jobs) for choices in (drawn, best)
    ]
    both = Prediction.of(
        np.concatenate([one.predicted for one in checked]),
        np.concatenate([one.measured for one in checked]),
    )
    print(
        f"prediction: {len(both)} plans on {len(loop.episodes)} episodes each, "
        f"{time.perf_counter() - start:.0f} s; float {here.quality}"
    )
    names = (f"{plans} random plans", f"{plans // 2} best predicted plans", "all")
    for name, one in zip(names, (*checked, both), strict=True):
        print(f"  Spearman, {name}: {one.rank_correlation:.3f}")
    for name, one in (("random plans alone", checked[0]), ("all", both)):
        for limit in (0.01, 0.03, 0.05):
            print(
                f"  at most {100 * limit:.0f} points lost, by {name}: sums up to "
                f"{one.most(limit):.3g} nats are trusted, margin {100 * one.margin(limit):.0f} %"
            )
    for total, loss in zip(both.predicted, both.measured, strict=True):
        print(f"    {total:10.5f} nats predicted   {100 * loss:6.1f} points measured")
    return both


def encoded_with(features: ModelFeatures, quality: object) -> ModelFeatures:
    """The same features beside another quality of the float model."""
    return replace(features, quality=quality)


def mixed(model: Policy, features: ModelFeatures, loop: ClosedLoop, data: list) -> bool:
    """Plan for no more tensor bytes than uniform 3 bits take; whether 95 % hold."""
    uniform, report = quantize_model(model, bits=3)
    print(f"mixed: uniform 3 bits per channel {report.quantized_bytes:,} bytes, {loop(uniform)}")
    choice = allocate_bits(
        features.loss,
        [("bytes", features.bytes, report.quantized_bytes - features.other_bytes)],
    )
    nearest, _ = quantize_model(model, bits=widths_of(features.sensitivity, choice))
    print(f"  widths by divergence, nearest rounding: {loop(nearest)}")
    planned = plan_quantization(
        model,
        {"memory_bytes": file_bytes(uniform)},
        {"max_loss": 0.005},
        calibration_data=data,
        evaluate=loop,
        features=features,
    )
    print(planned)
    now = planned.report
    print(f"  {now.quantized_bytes:,} bytes of tensors, {now.quality}")
    return now.quality.value >= 0.95 and now.quantized_bytes <= report.quantized_bytes


def edge(model: Policy, features: ModelFeatures, loop: ClosedLoop, data: list, few: list) -> bool:
    """Case 1: sizes and times of the large policy, success of the small one."""
    print("case 1, edge device: 40 MB, 8 bits; the document: 75 % fewer bytes, 60 % less time")
    device = {"memory_limit": "100 MB", "compute_limit": "50 %"}
    met = large_policy(device, {"bits": 8}, few, bits=(8,))
    success = plan_quantization(
        model,
        None,
        {"bits": 8, "max_loss": 0.03},
        calibration_data=data,
        evaluate=loop,
        features=features,
    )
    print(f"  the robot at 8 bits: {success.verified[0].text}")
    return met


def latency(few: list) -> bool:
    """Case 2: a fifth of the time, by whatever widths it takes."""
    print("case 2, latency: 1000 ms → under 200 ms is a share of 0.20; the document reports 0.15")
    return large_policy({"compute": "20 %"}, None, few, bits=(4, 8))


def large_policy(device: dict, wish: dict | None, few: list, bits: tuple[int, ...]) -> bool:
    """Plan for the policy of ten million parameters; whether the request is met.

    It is not trained: all its layers are as good as each other, and only sizes and times count.
    """
    large = vla_10m()
    features = encode_model(
        large,
        evaluate=lambda model: 0.0,
        example=tuple(x[:1] for x in few[0]),
        bits=bits,
        timed=False,
    )
    try:
        planned = plan_quantization(large, device, wish, calibration_data=few, features=features)
    except Infeasible as error:
        print(f"  refused: {error}")
        return False
    print(planned)
    saved = 1 - planned.file_bytes / planned.report.original_bytes
    print(f"  {100 * saved:.1f} % fewer bytes (measured)")
    return True


def ways(model: Policy, data: list) -> None:
    """Print what every way to quantize takes on this machine, batch 1, for the reasons why."""
    example = tuple(x[:1] for x in data[0])
    made = {
        f"{bits} bits {method}": quantize_model(
            model, method, bits=bits, calibration_data=data if method == "static" else None
        )[0]
        for method, bits in (
            ("weight_only", 8),
            ("weight_only", 4),
            ("dynamic", 8),
            ("static", 8),
        )
    }
    print(time_models(model, made, example))


def main() -> int:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--plans", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=1)
    parts = ("prediction", "mixed", "edge", "latency")
    parser.add_argument("--only", choices=parts, nargs="*", default=parts)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model, data, loop = robot(0), calibration_batches(256), ClosedLoop(given.episodes)
    # Sizes and times of the large policy, which is not trained, need few inputs.
    few = calibration_batches(16)
    good = True
    if set(given.only) - {"latency"}:
        start = time.perf_counter()
        features = encode_model(
            model,
            evaluate=loop,
            proxy=MinusDivergence(model, data),
            example=tuple(x[:1] for x in data[0]),
            n_jobs=given.jobs,
        )
        print(
            f"encoded {len(features.layers)} layers × {len(features.bits)} widths in "
            f"{time.perf_counter() - start:.0f} s; float {features.quality}"
        )
    if "prediction" in given.only:
        good &= prediction(model, features, given.plans, given.jobs).rank_correlation >= 0.9
    if "mixed" in given.only:
        good &= mixed(model, features, loop, data)
    if "edge" in given.only:
        good &= edge(model, features, loop, data, few)
    if "latency" in given.only:
        latency(few)
        ways(vla_10m(), few)
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"measured on {os.cpu_count()} processors, one thread a process{load}")
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
