"""What training brings back at 2 bits: plain straight-through next to learned steps, on MNIST.

    python benchmarks/qat_accuracy.py [--epochs 6]

4000 training images, moved by up to a pixel as they are few, all 1000 test images, and
quantize_model's defaults but for what a row says. Each row: the same network rounded without
training, trained with the range rule, trained with learned steps (LSQ), the paired difference of
the two, and float trained as long on the same batches. Learning rate and shifts were chosen on 800
of the training images that neither the network nor its training had seen. Exit status 1 when
neither rule reaches the row's goal, when LSQ is behind by more than the images leave open, or when
a training takes more than 30 s. Accuracies are the same each time on one machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, default_collate

from labkit.compare import compare_models
from labkit.data import Mnist, load_mnist
from labkit.evaluate import accuracy
from labkit.qat import STEP_RULES
from labkit.quantize import quantize_model
from labkit.zoo import mnist_cnn, mnist_mlp

# name, network, granularity, bits of the inputs, goal
ROWS = (
    ("MLP, W2A8 a tensor", mnist_mlp, "tensor", 8, 0.90),
    ("MLP, W2A8 a channel", mnist_mlp, "channel", 8, 0.94),
    ("MLP, W2A2 a channel", mnist_mlp, "channel", 2, 0.92),
    ("CNN, W2A8 a tensor", mnist_cnn, "tensor", 8, None),
    ("CNN, W2A8 a channel", mnist_cnn, "channel", 8, 0.96),
)
LIMIT_SECONDS = 30.0


def loader_of(mnist: Mnist) -> DataLoader:
    """Batches in random order, each moved by up to a pixel; the same ones at every call."""
    random = torch.Generator().manual_seed(0)

    def moved(samples: list[tuple[torch.Tensor, torch.Tensor]]) -> list[torch.Tensor]:
        images, labels = default_collate(samples)
        # The margin of a digit is empty, so that nothing comes in again on the other side.
        shifts = torch.randint(-1, 2, (2,), generator=random).tolist()
        return [images.roll(shifts, (2, 3)), labels]

    data = TensorDataset(mnist.train_images, mnist.train_labels)
    return DataLoader(data, batch_size=64, shuffle=True, generator=random, collate_fn=moved)


def trained(
    build: Callable[[], nn.Module], mnist: Mnist, epochs: int, rule: str, **options
) -> tuple[nn.Module, float]:
    """The trained model and the seconds it took; its control is not counted."""
    start = time.perf_counter()
    model, _ = quantize_model(
        build(),
        "qat",
        bits=2,
        train_loader=loader_of(mnist),
        num_epochs=epochs,
        training={"step_rule": rule},
        **options,
    )
    return model, time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=6, help="epochs of training (default 6)")
    epochs, mnist, failed = parser.parse_args().epochs, load_mnist(), False
    test = mnist.test_images, mnist.test_labels
    controls = {}
    for name, build, granularity, activation_bits, goal in ROWS:
        options = {"granularity": granularity, "activation_bits": activation_bits}
        calibration = mnist.train_images[:500].split(100)
        rounded, _ = quantize_model(
            build(), "static", bits=2, calibration_data=calibration, **options
        )
        print(f"{name}\n    only rounded      {accuracy(rounded, *test)}")
        models, reached = {}, goal is None
        for rule in STEP_RULES:
            models[rule], seconds = trained(build, mnist, epochs, rule, **options)
            quality = accuracy(models[rule], *test)
            reaches = goal is None or quality.value >= goal
            reached |= reaches
            failed |= seconds > LIMIT_SECONDS
            wanted = "" if goal is None else f", goal {100 * goal:.0f} %: {reaches}"
            print(f"    trained, {rule:9}{quality}, {seconds:.1f} s{wanted}")
        failed |= not reached
        change = compare_models(models["range"], models["learned"], *test)
        failed |= change.resolved and change.difference < 0
        print(f"    learned - range   {change}")
        if build not in controls:
            measure = partial(accuracy, images=test[0], labels=test[1])
            _, report = quantize_model(
                build(), "qat", train_loader=loader_of(mnist), num_epochs=epochs, evaluate=measure
            )
            controls[build] = report.original_quality, report.control_quality
        before, after = controls[build]
        print(f"    float, before     {before}\n    trained as long   {after}")
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"measured on {os.cpu_count()} processors, {torch.get_num_threads()} threads{load}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
