"""Quality, always with its interval: accuracy and the Wilson score interval of a proportion."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import nn


@dataclass(frozen=True)
class Accuracy:
    """Measured accuracy: `correct` of `n` images, with the confidence interval of the true value.

    `value`, `low` and `high` are proportions in 0..1. Two models whose intervals on the same images
    overlap widely are not resolved by this many images.

    >>> print(Accuracy.of(941, 1000))
    94.1 % [92.5, 95.4] of 1000 (measured)
    """

    correct: int
    n: int
    value: float
    low: float
    high: float

    @classmethod
    def of(cls, correct: int, n: int, confidence: float = 0.95) -> "Accuracy":
        """Return the report for `correct` right answers of `n`; ValueError as `wilson_interval`.

        >>> Accuracy.of(9, 10).value
        0.9
        """
        low, high = wilson_interval(correct, n, confidence)
        return cls(correct, n, correct / n, low, high)

    def __str__(self) -> str:
        """Percent with one decimal, the interval in brackets, and n."""
        low, high = f"{100 * self.low:.1f}", f"{100 * self.high:.1f}"
        return f"{100 * self.value:.1f} % [{low}, {high}] of {self.n} (measured)"


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return (low, high), the Wilson score interval of a proportion, both in 0..1.

    Unlike value ± 1.96 standard errors it stays inside 0..1 and is honest at 0 and at n of n.
    Source: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209. Raises ValueError unless
    0 <= successes <= n, n >= 1 and 0 < confidence < 1.

    >>> low, high = wilson_interval(0, 10)
    >>> low, round(high, 4)
    (0.0, 0.2775)
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"got {successes} successes of {n}; needs 0 <= successes <= n and n >= 1")
    if not 0 < confidence < 1:
        raise ValueError(f"got confidence {confidence}; needs a number between 0 and 1, e.g. 0.95")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = successes / n
    centre = p + z * z / (2 * n)
    half_width = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # The ends are exact at 0 of n and n of n; the arithmetic would leave 1e-17 there.
    low = 0.0 if successes == 0 else (centre - half_width) / scale
    high = 1.0 if successes == n else (centre + half_width) / scale
    return low, high


def measured(
    evaluate: Callable[[nn.Module], Accuracy | float] | None, model: nn.Module
) -> Accuracy | float | None:
    """Return what `evaluate` says about `model`, as an `Accuracy` or a float; None without it.

    Raises ValueError when it returns anything else, such as None for a forgotten `return`.

    >>> measured(lambda model: torch.tensor(0.5), nn.Identity())
    0.5
    """
    if evaluate is None:
        return None
    quality = evaluate(model)
    if isinstance(quality, Accuracy):
        return quality
    try:
        return float(quality)
    except (TypeError, ValueError):
        raise ValueError(
            f"evaluate must return an Accuracy or a number, got {type(quality).__name__}"
        ) from None


def quality_text(quality: Accuracy | float | None) -> str:
    """Return a quality as the lab prints it: an `Accuracy` as it is, a number with four digits.

    >>> quality_text(Accuracy.of(9, 10)), quality_text(2 / 3), quality_text(None)
    ('90.0 % [59.6, 98.2] of 10 (measured)', '0.6667', 'not measured')
    """
    if quality is None:
        return "not measured"
    return str(quality) if isinstance(quality, Accuracy) else f"{quality:.4g}"


def accuracy(
    model: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    batch_size: int = 500,
    confidence: float = 0.95,
) -> Accuracy:
    """Return the share of images whose largest output is at the label, with its interval.

    Arguments and errors as in `right_answers`.

    >>> images = torch.eye(3)
    >>> print(accuracy(nn.Identity(), images, torch.tensor([0, 1, 1])))
    66.7 % [20.8, 93.9] of 3 (measured)
    """
    right = right_answers(model, images, labels, batch_size=batch_size)
    return Accuracy.of(int(right.sum()), len(right), confidence)


def right_answers(
    model: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    batch_size: int = 500,
) -> torch.Tensor:
    """Return, for each image, whether the largest output is at its label: bool (n,).

    model: a module or any function, images (b, ...) → scores (b, classes); a module is run in eval
    mode and is left in the mode it was in. images: (n, ...); labels: integers (n,). Raises
    ValueError for no images, another number of labels, or outputs that hold NaN.

    >>> right_answers(nn.Identity(), torch.eye(3), torch.tensor([0, 1, 1]))
    tensor([ True,  True, False])
    """
    if len(images) == 0 or labels.shape != (len(images),):
        raise ValueError(
            f"got images of shape {tuple(images.shape)} and labels of shape "
            f"{tuple(labels.shape)}; needs at least one image and one label for each"
        )
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    modes = [module.training for module in modules]
    right = []
    try:
        for module in modules:
            module.training = False
        with torch.no_grad():
            for batch, wanted in zip(
                images.split(batch_size), labels.split(batch_size), strict=True
            ):
                scores = model(batch)
                if scores.isnan().any():
                    raise ValueError("the model's output holds NaN; its accuracy means nothing")
                right.append(scores.argmax(dim=1) == wanted)
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
    return torch.cat(right)
