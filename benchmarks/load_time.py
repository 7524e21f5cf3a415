"""How long the bundled data and models take to load, and the MLP to answer 1000 images.

    python benchmarks/load_time.py

The digits must load in under 0.2 s, checksum included: first call of a fresh process, the worst of
five processes. Exit status 1 when they do not.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from labkit.data import load_mnist
from labkit.evaluate import accuracy
from labkit.zoo import mnist_cnn, mnist_mlp

LIMIT_SECONDS = 0.2
FIRST_CALL = """
import time
from labkit.data import load_mnist
start = time.perf_counter()
load_mnist()
print(time.perf_counter() - start)
"""


def first_call_seconds() -> float:
    """Seconds of the first `load_mnist()` in a new process, imports not counted."""
    answer = subprocess.run(
        [sys.executable, "-c", FIRST_CALL], capture_output=True, text=True, check=True
    )
    return float(answer.stdout)


def median_milliseconds(call: Callable[[], object], repeats: int = 30) -> float:
    """Median time of `call` after one call that is not counted."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def main() -> int:
    first = [first_call_seconds() for _ in range(5)]
    print(f"load_mnist, first call: {1000 * max(first):.0f} ms worst of 5 (limit 200 ms)")
    print(f"load_mnist, again:      {median_milliseconds(load_mnist):.1f} ms median")
    print(f"mnist_mlp():            {median_milliseconds(mnist_mlp):.1f} ms median")
    print(f"mnist_cnn():            {median_milliseconds(mnist_cnn):.1f} ms median")
    mnist, threads = load_mnist(), torch.get_num_threads()
    for name, model in (("MLP", mnist_mlp()), ("CNN", mnist_cnn())):
        took = median_milliseconds(
            lambda m=model: accuracy(m, mnist.test_images, mnist.test_labels)
        )
        print(f"{name} on 1000 images:     {took:.1f} ms median, {threads} threads")
    return int(max(first) >= LIMIT_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
