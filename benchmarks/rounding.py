"""Few bits without training: nearest, bias correction, learned rounding, and both, side by side.

    python benchmarks/rounding.py [--networks] [--iterations N] [--size 96]

Weights only. On MNIST: accuracy on the 1000 test images after learning from the first 1000 training
images, with the paired difference from float. With --networks, on what is installed of MobileNetV2
and EfficientNet-Lite0 (`python lab.py models`): the mean cosine between the quantized and the float
output, on noise like nature's that was not learned from, and on eight parts of a photograph, which
are another kind of picture than the noise that is learned from. With one scale a tensor the layers
are equalized first.

Exit status 1 unless learned rounding at 4 bits a channel is within 1 point of float on MNIST, and
leaves a quarter, on the noise, of the distance 1 - cosine that nearest leaves on the networks.
Seconds depend on the machine; the networks take half an hour on one core.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from labkit.bias_correction import correct_bias
from labkit.compare import compare_models
from labkit.data import load_mnist
from labkit.evaluate import accuracy
from labkit.pictures import natural_noise, photograph
from labkit.quantize import quantize_model
from labkit.real_models import efficientnet_lite0, is_installed, mobilenet_v2, normalize
from labkit.rounding import learn_rounding
from labkit.transform import equalize
from labkit.zoo import mnist_cnn, mnist_mlp

GRANULARITIES = ("channel", "tensor")
LIMIT_POINTS = 1.0


def corrected(
    model: nn.Module, batches: list[Tensor], iterations: int, **options
) -> Iterator[tuple[str, nn.Module, float]]:
    """Yield (what was done, the quantized model, seconds)."""
    nearest, _ = quantize_model(model, **options)
    yield "nearest", nearest, 0.0
    start = time.perf_counter()
    yield "bias", correct_bias(nearest, model, batches), time.perf_counter() - start
    start = time.perf_counter()
    learned = learn_rounding(nearest, model, batches, iterations=iterations)
    yield "learned", learned, time.perf_counter() - start
    both = correct_bias(learned, model, batches)
    yield "learned, bias", both, time.perf_counter() - start


def on_mnist(iterations: int) -> bool:
    mnist, fine = load_mnist(), True
    test = mnist.test_images, mnist.test_labels
    batches = list(mnist.train_images[:1000].split(250))
    for name, model in (("MLP", mnist_mlp()), ("CNN", mnist_cnn())):
        print(f"MNIST {name}, float: {accuracy(model, *test)}")
        for bits in (4, 3, 2):
            for granularity in GRANULARITIES:
                options = {"bits": bits, "granularity": granularity}
                for done, quantized, seconds in corrected(model, batches, iterations, **options):
                    change = compare_models(model, quantized, *test)
                    print(
                        f"  {bits} bits a {granularity:8}{done:14}{accuracy(quantized, *test)}"
                        f"{seconds:7.1f} s\n      against float: {change}",
                        flush=True,
                    )
                    if (bits, granularity, done) == (4, "channel", "learned"):
                        fine &= abs(100 * change.difference) <= LIMIT_POINTS
    return fine


def on_networks(iterations: int, size: int) -> bool:
    fine = True
    for name, build in (("mobilenet_v2", mobilenet_v2), ("efficientnet_lite0", efficientnet_lite0)):
        if not is_installed(name):
            print(f"{name} is not installed")
            continue
        model = build()
        batches = list(normalize(natural_noise(64, size), name).split(16))
        noise = normalize(natural_noise(32, size, seed=1), name)
        photo = normalize(photograph(size), name)
        print(f"{name}, pictures of {size} × {size}: mean cosine to the float output")
        for granularity in GRANULARITIES:
            options = {"bits": 4, "granularity": granularity}
            distance = {}
            ready = equalize(model) if granularity == "tensor" else model
            for done, quantized, seconds in corrected(ready, batches, iterations, **options):
                cosines = [cosine(quantized, model, pictures) for pictures in (noise, photo)]
                distance[done] = 1 - cosines[0]
                print(
                    f"  4 bits a {granularity:8}{done:14}noise {cosines[0]:.4f}, photograph "
                    f"{cosines[1]:.4f}{seconds:8.1f} s",
                    flush=True,
                )
            fine &= distance["learned"] < distance["nearest"] / 4
    return fine


def cosine(first: nn.Module, second: nn.Module, pictures: Tensor) -> float:
    with torch.no_grad():
        return nn.functional.cosine_similarity(first(pictures), second(pictures)).mean().item()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", action="store_true", help="measure the networks, not MNIST")
    parser.add_argument("--iterations", type=int, default=300, help="a layer (default 300)")
    parser.add_argument("--size", type=int, default=96, help="of the pictures (default 96)")
    options = parser.parse_args()
    if options.networks:
        fine = on_networks(options.iterations, options.size)
    else:
        fine = on_mnist(options.iterations)
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"measured on {os.cpu_count()} processors, {torch.get_num_threads()} threads{load}")
    return int(not fine)


if __name__ == "__main__":
    sys.exit(main())
