"""What a step of training costs under quantization: next to float, torchao and torch.ao.

    python benchmarks/qat_step.py [--rounds 15]

The small CNN (batch norm folded, as it is trained) and the model of ten million parameters, batches
of 64 digits, one thread, 2-bit weights a channel and 8-bit inputs. Every way trains for some steps
in every round, so that a busy moment meets all of them. Times are medians, ratios are to the float
step of the same round, with their quartiles. Exit status 1 when a step takes more than 1.3 float
steps, or more than a peer's.

Whether the C library gives large blocks back to the system after each use, and fetches new pages
for the next, depends on what a process did before: for the CNN it makes a step of any kind a third
slower or not, and ratios from 1.05 to 1.34 came of it. It is settled here before anything is timed;
`--unsettled` leaves it as it comes. Page faults a step are shown.

labkit runs as a user runs it, `train_quantized`, whose Adam is torch's fused one; float and the
peers run in the plain loop of any tutorial. What a fused Adam saves the float model stands beside:
that is no part of quantization. torch.ao (deprecated): its qat layers, with its fused observers.
torchao has no convolution; its grid of an input is chosen for each row anew.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

try:
    import resource
except ImportError:
    resource = None

from labkit.data import load_mnist
from labkit.modules import replace_modules
from labkit.qat import train_quantized
from labkit.qparams import choose_qparams
from labkit.quantize import quantizable_layers
from labkit.transform import fold_batch_norm
from labkit.zoo import mnist_cnn
from labkit.zoo_large import ten_million

BITS, ACTIVATION_BITS, BATCH, LIMIT = 2, 8, 64, 1.3
WARM_UP, STEPS = 5, 15
RATE = 1e-4


def settle_memory() -> None:
    """Let glibc keep what is freed: it does since it has seen a block of 32 MiB come back.

    mallopt(3), M_MMAP_THRESHOLD: both of its limits follow the largest block freed, up to that
    size. Nothing is written, so no memory is taken; other C libraries do not mind.
    """
    torch.empty(2**25 - 2**12, dtype=torch.uint8)


def page_faults() -> int:
    """Pages the system had to give this process so far; 0 on Windows, which does not tell."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt if resource else 0


class Clock:
    """A loader of one batch, again and again, that takes the time until it is asked for the next.

    The first steps of an epoch are not counted: there the optimizer makes its state.
    """

    def __init__(self, batch: tuple[Tensor, Tensor]) -> None:
        self.batch = batch
        self.seconds: list[float] = []
        self.faults: list[int] = []

    def __len__(self) -> int:
        return WARM_UP + STEPS

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for step in range(len(self)):
            faults, start = page_faults(), time.perf_counter()
            yield self.batch
            if step >= WARM_UP:
                self.seconds.append(time.perf_counter() - start)
                self.faults.append(page_faults() - faults)


def plainly(model: nn.Module, fused: bool | None = None) -> Callable[[Clock], None]:
    """The loop of any tutorial."""

    def train(loader: Clock) -> None:
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=fused)
        model.train()
        for images, labels in loader:
            loss = functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()

    return train


def with_labkit(model: nn.Module, step_rule: str) -> Callable[[Clock], object]:
    def choose(weight: Tensor):
        return choose_qparams(weight, BITS, symmetric=True, signed=True, axis=0)

    choosers = dict.fromkeys(quantizable_layers(model), choose)
    options = {"step_rule": step_rule, "activation_bits": ACTIVATION_BITS, "learning_rate": RATE}
    return lambda loader: train_quantized(model, choosers, loader, 1, **options)


def of_torch_ao(model: nn.Module) -> nn.Module:
    from torch.ao import quantization as ao
    from torch.ao.nn import qat

    weight = ao.default_fused_per_channel_wt_fake_quant.with_args(
        quant_min=-(2 ** (BITS - 1)), quant_max=2 ** (BITS - 1) - 1
    )
    inputs = ao.default_fused_act_fake_quant.with_args(
        quant_min=0, quant_max=2**ACTIVATION_BITS - 1
    )
    kinds = {nn.Linear: qat.Linear, nn.Conv2d: qat.Conv2d}
    replacements = {}
    for layer in quantizable_layers(model).values():
        layer.qconfig = ao.QConfig(activation=inputs, weight=weight)
        new = kinds[type(layer)].from_float(layer)
        fake_quantize = inputs()
        new.register_forward_pre_hook(lambda _, x, fake_quantize=fake_quantize: fake_quantize(*x))
        replacements[layer] = new
    return replace_modules(model, replacements)


def of_torchao(model: nn.Module) -> nn.Module:
    from torchao.quantization.qat import FakeQuantizedLinear, IntxFakeQuantizeConfig
    from torchao.quantization.quant_primitives import TorchAODType

    weight = IntxFakeQuantizeConfig(TorchAODType.INT2, "per_channel", is_symmetric=True)
    inputs = IntxFakeQuantizeConfig(torch.int8, "per_token", is_symmetric=False)
    layers = quantizable_layers(model).values()
    return replace_modules(
        model, {layer: FakeQuantizedLinear.from_linear(layer, inputs, weight) for layer in layers}
    )


def measure(
    model: nn.Module, rounds: int, *, torchao: bool
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Seconds of a step in each round, and page faults of a step, for each way."""
    mnist = load_mnist()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    ways = {
        "float": plainly(copy.deepcopy(model)),
        "float, fused Adam": plainly(copy.deepcopy(model), fused=True),
        "labkit, range": with_labkit(copy.deepcopy(model), "range"),
        "labkit, learned": with_labkit(copy.deepcopy(model), "learned"),
        "torch.ao": plainly(of_torch_ao(copy.deepcopy(model))),
    }
    if torchao:
        ways["torchao"] = plainly(of_torchao(copy.deepcopy(model)))
    clocks = {
        name: Clock((mnist.train_images[:BATCH], mnist.train_labels[:BATCH])) for name in ways
    }
    for _ in range(rounds):
        for name, train in ways.items():
            train(clocks[name])
    # One number a round: the median of its steps.
    seconds = {
        name: np.median(np.reshape(clock.seconds, (rounds, STEPS)), axis=1)
        for name, clock in clocks.items()
    }
    return seconds, {name: float(np.median(clock.faults)) for name, clock in clocks.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="rounds (default 15)")
    parser.add_argument("--unsettled", action="store_true", help="leave the heap as it comes")
    arguments = parser.parse_args()
    rounds, failed = arguments.rounds, False
    torch.set_num_threads(1)
    if not arguments.unsettled:
        settle_memory()
    warnings.filterwarnings("ignore")
    for name, model, torchao in (
        ("mnist_cnn", fold_batch_norm(mnist_cnn()), False),
        ("ten_million", ten_million(trained=False), True),
    ):
        times, faults = measure(model, rounds, torchao=torchao)
        print(f"{name:<20}{'median':>10}{'quartiles of the ratio':>36}{'page faults':>13}")
        ratios = {way: seconds / times["float"] for way, seconds in times.items()}
        for way, ratio in ratios.items():
            low, middle, high = np.percentile(ratio, [25, 50, 75])
            median = 1e3 * float(np.median(times[way]))
            print(
                f"  {way:<18}{median:>7.2f} ms{middle:>18.2f} ({low:.2f} to {high:.2f})"
                f"{faults[way]:>13.0f}"
            )
        peers = [np.median(ratio) for way, ratio in ratios.items() if way.startswith("torch")]
        ours = [np.median(ratio) for way, ratio in ratios.items() if way.startswith("labkit")]
        failed |= bool(max(ours) > min(LIMIT, *peers))
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"measured on {os.cpu_count()} processors, one thread{load}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
