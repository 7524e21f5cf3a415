"""What quantizing a model costs and keeps: a row for each way, measured on the same samples."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from torch import Tensor, nn
from tqdm import tqdm

from labkit.checks import check_bits, check_whole
from labkit.compare import Comparison
from labkit.data import Mnist
from labkit.evaluate import Accuracy, right_answers
from labkit.quantize import METHODS, quantize_model
from labkit.report import stored_tensors

CALIBRATION_BATCH, TRAINING_BATCH = 100, 50
# What a way needs before it can be used: nothing, inputs to watch, labels and training.
EFFORT = {"float": 0, "weight_only": 0, "dynamic": 0, "static": 1, "qat": 2}


@dataclass(frozen=True)
class Measurement:
    """One quantized model: how it was made, which samples it got right, and what it weighs.

    `samples` is the document's calibration_data_size: the images that static watched or qat trained
    on, 0 where none are needed. `right`: bool (n,), one value a test sample, so that any two rows
    can be compared sample by sample. `time_ratio` is its time divided by the float model's, None
    where it was not measured.
    """

    method: str
    bits: int
    samples: int
    bytes: int
    right: Tensor = field(repr=False, compare=False)
    time_ratio: float | None = None

    @property
    def quality(self) -> Accuracy:
        """The accuracy, with its interval."""
        return Accuracy.of(int(self.right.sum()), len(self.right))

    @property
    def name(self) -> str:
        """How it was made, in a few words.

        >>> import torch
        >>> Measurement("static", 8, 100, 10, torch.ones(2, dtype=torch.bool)).name
        'static, 8 bits, 100 samples'
        """
        if self.method == "float":
            return "float"
        samples = f", {self.samples} samples" if self.samples else ""
        return f"{self.method}, {self.bits} bits{samples}"

    def against(self, other: Measurement) -> Comparison:
        """Return accuracy of this one minus that of `other`, paired; ValueError for other samples.

        >>> import torch
        >>> one = Measurement("dynamic", 8, 0, 10, torch.tensor([True, False]))
        >>> one.against(one).difference
        0.0
        """
        if self.right.shape != other.right.shape:
            raise ValueError(
                f"{self.name} was tested on {len(self.right)} samples and {other.name} on "
                f"{len(other.right)}; only the same samples can be compared"
            )
        only_other = int((other.right & ~self.right).sum())
        only_this = int((self.right & ~other.right).sum())
        return Comparison.of(only_other, only_this, len(self.right))


@dataclass(frozen=True, repr=False)
class Grid:
    """The float model's row, and one for each way it was quantized; prints as a table."""

    original: Measurement
    rows: tuple[Measurement, ...]

    def find(self, method: str, bits: int, samples: int | None = None) -> Measurement | None:
        """Return the row measured that way, by default with the most samples; None without one."""
        found = [
            row
            for row in self.rows
            if (row.method, row.bits) == (method, bits) and samples in (None, row.samples)
        ]
        return max(found, key=lambda row: row.samples, default=None)

    def __str__(self) -> str:
        """A line a row: name, bytes, accuracy, and the paired difference to float."""
        rows = (self.original, *self.rows)
        width = max(len(row.name) for row in rows)
        return "\n".join(self._line(row, width) for row in rows)

    # At the prompt, the table says more than the fields.
    __repr__ = __str__

    def _line(self, row: Measurement, width: int) -> str:
        line = f"{row.name:<{width}}  {row.bytes:>10,} bytes  {row.quality}"
        if row is not self.original:
            line += f"  {row.against(self.original)}".removesuffix(" (measured)")
        return line if row.time_ratio is None else f"{line}  {row.time_ratio:.2f} of the time"


def measure_grid(
    model: nn.Module,
    mnist: Mnist,
    *,
    methods: Iterable[str] = METHODS,
    bits: Iterable[int] = (8, 4, 2),
    samples: Iterable[int] = (10, 100, 1000),
    num_epochs: int = 2,
    time_ratio: Callable[[nn.Module], float] | None = None,
    progress: bool = True,
    **options: object,
) -> Grid:
    """Quantize `model` every way and test each on all of `mnist`'s test images.

    Static is calibrated on the first so many `samples` of the training images, which are stored
    shuffled; qat trains on them for `num_epochs`; the others need none and get one row for each
    width. `time_ratio(quantized model)` returns its time divided by the float model's. `options` go
    to `quantize_model`. The model is not modified. Raises ValueError for an unknown method, bits
    outside 2..8, and samples below 1 or above the number of training images.

    >>> from labkit.data import load_mnist
    >>> from labkit.zoo import mnist_mlp
    >>> grid = measure_grid(mnist_mlp(), load_mnist(), methods=["dynamic"], progress=False)
    >>> [row.bytes for row in grid.rows]
    [237904, 120528, 61840]
    """
    methods, bits, samples = tuple(methods), tuple(bits), tuple(samples)
    for method in methods:
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}; got {method!r}")
    for width in bits:
        check_bits(width)
    for count in samples:
        if not 1 <= check_whole("samples", count) <= len(mnist.train_images):
            raise ValueError(f"samples must be 1 to {len(mnist.train_images)}, got {count}")
    images, labels = mnist.test_images, mnist.test_labels
    nbytes = sum(t.numel() * t.element_size() for t in stored_tensors(model)[0].values())
    original = Measurement("float", 32, 0, nbytes, right_answers(model, images, labels))
    ways = [
        (method, width, count)
        for method, width in itertools.product(methods, bits)
        for count in (samples if EFFORT[method] else (0,))
    ]
    rows = []
    for method, width, count in tqdm(ways, "quantizing", leave=False, disable=not progress):
        data = _data(method, mnist, count, num_epochs)
        quantized, report = quantize_model(model, method, bits=width, **data, **options)
        right = right_answers(quantized, images, labels)
        ratio = None if time_ratio is None else time_ratio(quantized)
        rows.append(Measurement(method, width, count, report.quantized_bytes, right, ratio))
    return Grid(original, tuple(rows))


def _data(method: str, mnist: Mnist, count: int, num_epochs: int) -> dict[str, object]:
    images, labels = mnist.train_images[:count], mnist.train_labels[:count]
    if method == "static":
        return {"calibration_data": images.split(CALIBRATION_BATCH)}
    if method == "qat":
        batches = zip(images.split(TRAINING_BATCH), labels.split(TRAINING_BATCH), strict=True)
        return {"train_loader": list(batches), "num_epochs": num_epochs}
    return {}
