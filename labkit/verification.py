"""Verification: does a quantized model keep what was asked? Only what was measured counts.

bytes     the size of the file that `labkit.files.save` writes, header included
loss      quality of the float model minus quality of the quantized one, on the same samples, with
          an interval; a limit is *kept* when the measured loss is within it, and *surely* kept when
          the whole interval is
seconds   the median of many calls, float model and quantized model in turn in one run
"""

from __future__ import annotations

import copy
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from labkit.engine import Engine
from labkit.evaluate import Accuracy
from labkit.files import save
from labkit.fusion import Limits
from labkit.latency import LatencyReport, measure_latency
from labkit.prediction import number

FLOAT, FLOAT_ENGINE, QUANTIZED = "float in PyTorch", "float on the engine", "quantized"


@dataclass(frozen=True)
class Loss:
    """What quantizing has cost in quality: value, and the 95 % interval where it has one.

    `low` and `high` are None for qualities without an interval. `points`: whether the qualities are
    proportions, of which 0.01 is a point.
    """

    value: float
    low: float | None = None
    high: float | None = None
    points: bool = False

    @classmethod
    def of(cls, before: Accuracy | float, after: Accuracy | float) -> Loss:
        """Return before - after.

        The interval is Newcombe's, made from both Wilson intervals. It takes the samples of the two
        as independent; they are the same, which makes the true interval narrower. Source: Newcombe,
        Statistics in Medicine 17 (1998) 873, method 10.

        >>> Loss.of(Accuracy.of(56, 70), Accuracy.of(48, 80)).text
        '20.0 points [5.2, 33.4]'
        """
        if not (isinstance(before, Accuracy) and isinstance(after, Accuracy)):
            return cls(number(before) - number(after))
        value = before.value - after.value
        down = math.hypot(before.value - before.low, after.high - after.value)
        up = math.hypot(before.high - before.value, after.value - after.low)
        return cls(value, value - down, value + up, points=True)

    @property
    def text(self) -> str:
        """The loss in points, or the plain number."""
        if not self.points:
            return f"{self.value:.4g}"
        ends = f"[{_tenths(self.low)}, {_tenths(self.high)}]"
        return f"{_tenths(self.value)} points {ends}"


@dataclass(frozen=True)
class Check:
    """One limit beside what was measured: `name` "bytes", "loss" or "seconds", `kept`, and `text`.

    `sure`: whether the whole interval of the measurement keeps the limit.
    """

    name: str
    limit: float
    measured: float
    kept: bool
    sure: bool
    text: str


def file_bytes(quantized: nn.Module) -> int:
    """Return the size of the file that `save` writes of this model, header included.

    >>> from labkit.quantize import quantize_model
    >>> quantized, report = quantize_model(nn.Linear(100, 10), bits=4)
    >>> file_bytes(quantized) > report.quantized_bytes
    True
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        save(quantized, path)
        return path.stat().st_size


def check_bytes(size: int, limit: int) -> Check:
    """Compare the size of a file with its limit.

    >>> check_bytes(900, 1000).text
    'the file has 900 bytes (measured), at most 1,000 asked: kept'
    """
    kept = size <= limit
    text = f"the file has {size:,} bytes (measured), at most {limit:,} asked: {_verdict(kept)}"
    return Check("bytes", limit, size, kept, kept, text)


def check_loss(loss: Loss, limit: float) -> Check:
    """Compare a loss of quality with its limit.

    >>> print(check_loss(Loss.of(Accuracy.of(590, 600), Accuracy.of(580, 600)), 0.03).text)
    1.7 points [-0.1, 3.6] lost (measured), at most 3.0 asked: kept, though not beyond doubt
    """
    # A loss that equals the limit on paper must not fail by the last digit of a float.
    slack = 1e-9 * max(1.0, abs(limit))
    kept = loss.value <= limit + slack
    sure = kept and (loss.high is None or loss.high <= limit + slack)
    asked = _tenths(limit) if loss.points else f"{limit:.4g}"
    doubt = ", though not beyond doubt" if kept and not sure else ""
    if not kept and loss.low is not None:
        doubt = " beyond doubt" if loss.low > limit else ", though not beyond doubt"
    text = f"{loss.text} lost (measured), at most {asked} asked: {_verdict(kept)}{doubt}"
    return Check("loss", limit, loss.value, kept, sure, text)


def time_models(
    model: nn.Module,
    quantized: dict[str, nn.Module] | nn.Module,
    example: Tensor | tuple[Tensor, ...],
    *,
    rounds: int = 30,
) -> LatencyReport:
    """Time float and quantized models in one run, one thread, called in a row with `example`.

    The first is the float model as it was given, called in PyTorch; the second the same on the
    engine, so that what the engine gains and what fewer bits gain can be told apart.
    """
    inputs = example if isinstance(example, tuple) else (example,)
    named = quantized if isinstance(quantized, dict) else {QUANTIZED: quantized}
    model = copy.deepcopy(model).eval()
    engines = {FLOAT_ENGINE: model, **named}
    # Exported for the batch that is timed: a size that is known is computed faster.
    runs = {name: Engine.of(m, example, any_batch=False) for name, m in engines.items()}
    calls = {FLOAT: lambda: model(*inputs)}
    calls |= {name: lambda engine=engine: engine(*inputs) for name, engine in runs.items()}
    return measure_latency(calls, rounds=rounds)


def check_seconds(times: LatencyReport, limits: Limits, name: str = QUANTIZED) -> Check:
    """Compare the time of one call with its limit; a share is one of the float model in PyTorch."""
    before, engine, now = times[FLOAT], times[FLOAT_ENGINE], times[name]
    limit = limits.seconds(before.median)
    kept = now.median <= limit
    # The limit may come from the ratio or from the clock; the spread of both must keep it.
    share = limit / before.median
    sure = kept and now.ratio_high <= share and now.high <= limit
    doubt = ", though not beyond doubt" if kept and not sure else ""
    text = (
        f"one call takes {_ms(now.median)} (measured), {now.ratio:.2f} [{now.ratio_low:.2f}, "
        f"{now.ratio_high:.2f}] of the float model's {_ms(before.median)} in PyTorch and "
        f"{now.median / engine.median:.2f} of its {_ms(engine.median)} on the same engine; at most "
        f"{_ms(limit)}, a share of {share:.3g}, asked: {_verdict(kept)}{doubt}"
    )
    return Check("seconds", limit, now.median, kept, sure, text)


def _verdict(kept: bool) -> str:
    return "kept" if kept else "missed"


def _tenths(share: float) -> str:
    """A share in points, 0.0 without a sign."""
    shown = f"{100 * share:.1f}"
    return "0.0" if shown == "-0.0" else shown


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"
