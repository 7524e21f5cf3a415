"""Mixed precision against one width for all layers, and how long the exact allocation takes.

    python benchmarks/mixed.py [--jobs 2]

1. MobileNetV2 and EfficientNet-Lite0 (skipped where they are not installed): sensitivity is
   measured on eight pictures, widths are chosen for no more bytes than a uniform width takes, and
   both are judged on 64 other pictures by the cosine between their outputs and the float model's;
   the difference is paired, its 95 % interval from a bootstrap over pictures.
2. MNIST MLP and CNN under budgets between two uniform widths: sensitivity on 1000 training images,
   accuracy on the 1000 test images, McNemar's test. With the rank correlation of the Hessian's
   prediction and the measured loss.
3. 200 layers × 7 options under two limits: seconds of `allocate_bits` on 100 random problems of
   each of three kinds, and how much more the greedy choice costs.

Exit status 1 unless mixed beats uniform by a resolved difference on two models. Some five
minutes on one core.
"""

import argparse
import os
import sys
import time

import numpy as np
import torch
from scipy.stats import bootstrap
from torch.nn import functional

from labkit import real_models
from labkit.compare import compare_models
from labkit.data import load_mnist
from labkit.evaluate import accuracy
from labkit.hessian import CURVATURES, hessian_sensitivity, rank_correlation
from labkit.mixed import (
    allocate_bits,
    allocate_greedily,
    bytes_of,
    measure_sensitivity,
    widths_of,
)
from labkit.pictures import natural_noise
from labkit.quantize import quantize_model
from labkit.zoo import mnist_cnn, mnist_mlp

BITS = (2, 3, 4, 5, 6, 8)
SIZE = 128


class OutputError:
    """Minus the squared error of the outputs relative to the float model's, on some pictures."""

    def __init__(self, model, pictures):
        self.pictures = pictures
        with torch.no_grad():
            self.wanted = model(pictures)

    def __call__(self, model):
        with torch.no_grad():
            error = (model(self.pictures) - self.wanted).square().sum(1)
        return -(error / self.wanted.square().sum(1)).mean().item()


class MinusLoss:
    """Minus the cross-entropy on some images."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __call__(self, model):
        with torch.no_grad():
            return -functional.cross_entropy(model(self.images), self.labels).item()


def at_the_bytes_of(sensitivity, width):
    """Widths chosen for at most the bytes that one width for all takes, and both byte counts."""
    uniform = [sensitivity.bits.index(width)] * len(sensitivity.layers)
    budget = bytes_of(sensitivity, uniform)
    limit = ("bytes", sensitivity.bytes, budget - sensitivity.other_bytes)
    choice = allocate_bits(sensitivity.loss, [limit])
    return widths_of(sensitivity, choice), bytes_of(sensitivity, choice), budget


def real_network(name, build, jobs):
    """Compare at 3 and 4 bits; whether mixed won by a resolved difference at one of them."""
    model, won = build(), False
    chosen_on, judged_on = (
        real_models.normalize(natural_noise(n, SIZE, seed=seed), name)
        for n, seed in ((8, 1), (64, 2))
    )
    start = time.perf_counter()
    table = measure_sensitivity(model, OutputError(model, chosen_on), BITS, n_jobs=jobs)
    count = len(table.layers)
    print(
        f"{name}: sensitivity of {count} layers × {len(BITS)}: {time.perf_counter() - start:.0f} s"
    )
    with torch.no_grad():
        wanted = model(judged_on)
    for width in (3, 4):
        widths, used, budget = at_the_bytes_of(table, width)
        likeness = []
        for bits in (width, widths):
            with torch.no_grad():
                got = quantize_model(model, bits=bits)[0](judged_on)
            likeness.append(functional.cosine_similarity(got, wanted).double().numpy())
        uniform, mixed = likeness
        low, high = bootstrap((mixed - uniform,), np.mean, rng=0).confidence_interval
        resolved = low > 0 or high < 0
        won |= low > 0
        print(
            f"  {width} bits: uniform {budget:,} bytes, cosine {uniform.mean():.4f}; mixed "
            f"{used:,} bytes, {mixed.mean():.4f}; difference {(mixed - uniform).mean():+.4f} "
            f"[{low:+.4f}, {high:+.4f}] on 64 pictures: {'' if resolved else 'not '}resolved"
        )
        counts = {bits: list(widths.values()).count(bits) for bits in BITS}
        print(f"    layers at {counts}")
    return won


def digits(name, model, jobs):
    """Compare under budgets of 2.25 and 2.5 bits a weight, where uniform has to take 2."""
    mnist, won = load_mnist(), False
    images, labels = mnist.train_images[-1000:], mnist.train_labels[-1000:]
    bits = (2, 3, 4, 5, 6, 7, 8)
    table = measure_sensitivity(model, MinusLoss(images, labels), bits, n_jobs=jobs)
    print(f"MNIST {name}:\n{table}")
    # Small batches stay in the processor's cache.
    batches = list(zip(images.split(50), labels.split(50), strict=True))
    for curvature in CURVATURES:
        start = time.perf_counter()
        proxy = hessian_sensitivity(model, batches, bits=bits, curvature=curvature, samples=2)
        rank = rank_correlation(proxy.loss, table.loss)
        seconds = time.perf_counter() - start
        print(f"  rank correlation with ½eᵀHe, {curvature}: {rank:.2f} ({seconds:.1f} s)")
    for share in (0.25, 0.5):
        low, high = (bytes_of(table, [column] * len(table.layers)) for column in (0, 1))
        budget = int(low + share * (high - low))
        limit = ("bytes", table.bytes, budget - table.other_bytes)
        widths = widths_of(table, allocate_bits(table.loss, [limit]))
        uniform, mixed = (quantize_model(model, bits=b)[0] for b in (2, widths))
        change = compare_models(uniform, mixed, mnist.test_images, mnist.test_labels)
        won |= change.resolved and change.difference > 0
        print(f"  budget {budget:,} bytes ({2 + share} bits): {widths}")
        for label, candidate in (("uniform 2", uniform), ("mixed", mixed)):
            print(f"    {label}: {accuracy(candidate, mnist.test_images, mnist.test_labels)}")
        print(f"    mixed - uniform: {change}")
    return won


def allocation(decades):
    """Time `allocate_bits` on 100 problems like a network's; layer sizes lie over some decades."""
    seconds, excess = [], []
    layer = np.arange(200)
    for seed in range(100):
        rng = np.random.default_rng(seed)
        bits = np.arange(2, 9)
        weights = 10 ** rng.uniform(6 - decades, 6, (200, 1))
        size = np.round(weights * bits / 8)
        time_used = weights * (0.3 + bits / 8 * rng.uniform(0.5, 1.5, (200, 1))) * 1e-9
        cost = 10 ** rng.uniform(-decades, 0, (200, 1)) * 4.0 ** (2 - bits)
        cost = cost * rng.uniform(0.8, 1.2, (200, 7))
        limits = [
            (name, use, use[:, 0].sum() + 0.3 * (use[:, -1] - use[:, 0]).sum())
            for name, use in (("bytes", size), ("seconds", time_used))
        ]
        start = time.perf_counter()
        best = allocate_bits(cost, limits)
        seconds.append(time.perf_counter() - start)
        greedy = allocate_greedily(cost, limits)
        excess.append(cost[layer, greedy].sum() / cost[layer, best].sum() - 1)
    low, middle, high = np.percentile(seconds, [25, 50, 75])
    least, usual, most = (100 * share for share in np.percentile(excess, [0, 50, 100]))
    print(
        f"200 layers × 7 options, two limits, sizes over {decades} decade(s): median "
        f"{middle:.2f} s (quartiles {low:.2f} to {high:.2f}, slowest {max(seconds):.2f}); greedy "
        f"costs {usual:.1f} % more ({least:.1f} to {most:.1f})"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1, help="processes (default 1)")
    jobs = parser.parse_args().jobs
    torch.set_num_threads(1)
    for decades in (1, 2, 3):
        allocation(decades)
    won = [
        digits(name, model, jobs) for name, model in (("MLP", mnist_mlp()), ("CNN", mnist_cnn()))
    ]
    for name in real_models.WEIGHTS:
        if real_models.is_installed(name):
            won.append(real_network(name, getattr(real_models, name), jobs))
        else:
            print(f"{name} is not installed: python lab.py models")
    print(f"mixed beats uniform by a resolved difference on {sum(won)} of {len(won)} models")
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"measured on {os.cpu_count()} processors, one thread a process{load}")
    return int(sum(won) < 2)


if __name__ == "__main__":
    sys.exit(main())
