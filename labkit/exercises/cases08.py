"""How the exercises of notebook 08 are judged: torch's own fake quantizers, and numpy in float64.

The first case of each exercise gives every known mistake another result, so that the message can
name the mistake; the later ones hold edges and random numbers. No weight lies on an edge between
two codes: there torch and labkit differ, and both are right.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from labkit.exercises.core import Case

PASSES_ALL = (
    "You let every gradient pass: where the code is clipped it is 0, or a weight that has left "
    "the range wanders off for ever."
)
NOTHING = "That is the true slope of rounding, 0; straight-through lets the gradient pass inside."
FLOAT_RANGE = (
    "You compared the weight with the outer levels; compare the rounded code with the code range: "
    "a weight up to half a step beyond the last level still rounds to it."
)
STRICT = "You left out the end codes: quant_min and quant_max belong to the range."
INVERTED = "You kept the gradient where the code clips, and dropped it inside: the other way round."
TIMES_SCALE = "Do not multiply by the scale: Q(w) is in the units of w, so its slope is 1."
ONE_LIMIT = "You took quant_max for both ends: the range begins at quant_min."
ROUNDED_WEIGHTS = "You returned rounded weights; asked for is the gradient of the weights."
STRAIGHT_GENERAL = (
    "codes = round(w / scale); the gradient where quant_min <= codes <= quant_max, 0 elsewhere."
)


def straight_cases() -> Iterator[Case]:
    """Cases of exercise 8.1: the straight-through gradient."""
    w = np.array([-3.0, -1.3, -1.2, -0.9, 0.1, 0.6, 0.74, 0.8, 2.0])
    g = np.array([1.0, -2.0, 3.0, 0.5, -1.5, 2.5, -0.7, 4.0, 0.3])
    yield _straight_case(g, w, 0.5, -2, 1)
    yield _straight_case(g, w, 0.5, 0, 3)
    for seed in range(3):
        draw = np.random.default_rng(seed)
        scale, bits = float(draw.uniform(0.05, 0.5)), int(draw.integers(2, 6))
        w = _off_edges(draw.normal(0, 1, 50), scale)
        yield _straight_case(
            draw.normal(0, 1, 50), w, scale, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        )


def _straight_case(g, w, scale, low, high) -> Case:
    weight = torch.from_numpy(w).float().requires_grad_()
    y = torch.fake_quantize_per_tensor_affine(weight, scale, 0, low, high)
    (expected,) = torch.autograd.grad(y, weight, torch.from_numpy(g).float())
    codes = np.round(w / scale)
    inside = (codes >= low) & (codes <= high)
    looks_like = {
        PASSES_ALL: g,
        NOTHING: 0 * g,
        FLOAT_RANGE: g * ((w >= low * scale) & (w <= high * scale)),
        STRICT: g * ((codes > low) & (codes < high)),
        INVERTED: g * ~inside,
        TIMES_SCALE: g * inside * scale,
        ONE_LIMIT: g * (np.abs(codes) <= high),
        ROUNDED_WEIGHTS: codes.clip(low, high) * scale,
    }
    arguments = (torch.from_numpy(g).float(), weight.detach(), scale, low, high)
    return Case(arguments, expected, STRAIGHT_GENERAL, _tensors(looks_like), 1e-5)


LOST = (
    "You moved the rounded weights: then small steps round back and are lost. Update the float "
    "weights w."
)
FLOAT_LOSS = "Your loss is that of the float weights: compute it with the rounded ones."
UPHILL = "You went uphill: subtract the learning rate times the gradient."
SUMMED = "You summed the squared errors; the loss is their mean over the images."
STANDS_STILL = (
    "The weights have not moved: round() alone has slope 0. Use fake_quantize, or pass the "
    "gradient straight through."
)
UNCLIPPED = "A weight whose code is clipped has gradient 0 and stays where it is."
ROUNDED_AFTER = "You returned rounded weights: what is kept from step to step are the float ones."
HALVED = "You lost the factor 2 of the derivative of a square."
TRAINING_GENERAL = (
    "loss = mean((x @ Q(w) − y)²) with rounded weights; new w = w − learning rate × dL/dQ where "
    "the code is not clipped."
)


def training_cases() -> Iterator[Case]:
    """Cases of exercise 8.2: one step of training under quantization."""
    w = np.array([0.3, -0.8, 0.9, -0.1, 1.4])
    draw = np.random.default_rng(7)
    yield _training_case(w, draw.normal(0, 1, (4, 5)), draw.normal(0, 1, 4), 0.5, 0.1)
    for seed in range(4):
        draw = np.random.default_rng(seed)
        n, images, scale = int(draw.integers(1, 12)), int(draw.integers(1, 9)), 0.4
        w = _off_edges(draw.normal(0, 0.6, n), scale)
        x, y = draw.normal(0, 1, (images, n)), draw.normal(0, 1, images)
        yield _training_case(w, x, y, scale, float(draw.uniform(0.01, 0.3)))


def _training_case(w, x, y, scale, rate) -> Case:
    w, x, y = (np.float32(array).astype(float) for array in (w, x, y))
    codes = np.round(w / scale)
    inside = (codes >= -2) & (codes <= 1)
    rounded = codes.clip(-2, 1) * scale

    def slope(weights):
        return 2 * x.T @ (x @ weights - y) / len(y)

    gradient = slope(rounded)
    after = w - rate * gradient * inside
    looks_like = {
        LOST: rounded - rate * gradient * inside,
        FLOAT_LOSS: w - rate * slope(w),
        UPHILL: w + rate * gradient * inside,
        STANDS_STILL: w,
        UNCLIPPED: w - rate * gradient,
        ROUNDED_AFTER: np.round(after / scale).clip(-2, 1) * scale,
        HALVED: w - rate * gradient * inside / 2,
        SUMMED: w - rate * gradient * inside * len(y),
    }
    looks_like = {said: wrong for said, wrong in looks_like.items() if not _near(wrong, after)}
    arguments = (*(torch.from_numpy(array).float() for array in (w, x, y)), scale, rate)
    return Case(arguments, torch.from_numpy(after), TRAINING_GENERAL, _tensors(looks_like), 1e-4)


ONE_STEP = "You made one step for the whole tensor: asked for is one for each row."
COLUMNS = "You took the mean down the columns: a channel is a row, so average over dim=1."
NO_SIZE = "You took the mean of the weights, which nearly cancel: take the mean of their sizes |w|."
LARGEST = "You took the largest |w|, which is the range rule; LSQ starts from the mean of |w|."
NO_ROOT = "Divide by the square root of quant_max, not by quant_max."
NO_TWO = "You forgot the factor 2."
ALL_STEPS = "Signed codes of b bits end at 2^(b−1) − 1: that is quant_max here, not 2^b − 1."
ONE_MORE = "quant_max is 2^(b−1) − 1; you took 2^(b−1), the size of the lowest code."
KEPT = "One number a row: shape (out,), without a dimension of length 1 behind it."
FIRST_GENERAL = "For each row: 2 · mean(|w|) / sqrt(2^(bits−1) − 1)."


def first_cases() -> Iterator[Case]:
    """Cases of exercise 8.3: LSQ's first step, one a row."""
    yield _first_case(np.array([[0.5, -1.0, 0.25], [2.0, 3.0, -1.5], [-0.1, -0.2, -0.4]]), 4)
    yield _first_case(np.array([[1.0, -1.0], [0.5, 0.25]]), 2)
    for seed in range(3):
        draw = np.random.default_rng(seed)
        yield _first_case(draw.normal(0, 0.2, (6, 40)), int(draw.integers(2, 9)))


def _first_case(w, bits) -> Case:
    w = np.float32(w).astype(float)
    most, size = 2 ** (bits - 1) - 1, np.abs(w)
    right = 2 * size.mean(1) / np.sqrt(most)
    looks_like = {
        ONE_STEP: 2 * size.mean() / np.sqrt(most),
        COLUMNS: 2 * size.mean(0) / np.sqrt(most),
        NO_SIZE: 2 * w.mean(1) / np.sqrt(most),
        LARGEST: 2 * size.max(1) / np.sqrt(most),
        NO_ROOT: 2 * size.mean(1) / most,
        NO_TWO: right / 2,
        ALL_STEPS: 2 * size.mean(1) / np.sqrt(2**bits - 1),
        ONE_MORE: 2 * size.mean(1) / np.sqrt(most + 1),
        KEPT: right[:, None],
    }
    looks_like = {said: wrong for said, wrong in looks_like.items() if not _near(wrong, right)}
    arguments = (torch.from_numpy(w).float(), bits)
    return Case(arguments, torch.from_numpy(right), FIRST_GENERAL, _tensors(looks_like), 1e-5)


UNSCALED = "You left out LSQ's gradient scale: divide the sum by sqrt(N · quant_max)."
HELD = (
    "You held the codes where they are: inside, the slope is round(w/s) − w/s, not round(w/s). A "
    "larger step moves codes, too."
)
OTHER_SIGN = "The sign is turned round: inside, the slope is round(w/s) − w/s."
NO_ENDS = "Clipped weights count, too: their slope is the end code, not 0."
ONE_END = "Below the range the slope is quant_min, not quant_max."
MEAN = "You took the mean; LSQ sums, and divides by sqrt(N · quant_max)."
ONLY_N = "The gradient scale is 1 / sqrt(N · quant_max); you left out quant_max."
ROOTLESS = "You divided by N · quant_max; LSQ divides by its square root."
IN_VALUES = "You took Q(w) − w itself; its slope over s is that divided by s: round(w/s) − w/s."
EACH = "You returned one number a weight; the step is shared: sum over all weights."
STEP_GENERAL = (
    "Σ gradient · (round(w/s) − w/s inside the range, the end code where it clips), divided by "
    "sqrt(N · quant_max)."
)


def step_cases() -> Iterator[Case]:
    """Cases of exercise 8.4: LSQ's gradient of the step."""
    w = np.array([-3.0, -1.1, -0.4, 0.1, 0.3, 0.6, 1.9])
    g = np.array([0.8, -2.0, 3.0, 0.5, -1.5, 2.5, -0.7])
    yield _step_case(g, w, 0.5, -4, 3)
    yield _step_case(g, w, 0.25, -2, 1)
    for seed in range(4):
        draw = np.random.default_rng(seed)
        scale, bits = float(draw.uniform(0.05, 0.4)), int(draw.integers(2, 6))
        w = _off_edges(draw.normal(0, 0.5, 60), scale)
        g = draw.normal(0, 1, 60)
        yield _step_case(g, w, scale, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _step_case(g, w, scale, low, high) -> Case:
    weight, gradient = torch.from_numpy(w).float(), torch.from_numpy(g).float()
    step = torch.tensor([scale], requires_grad=True)
    y = torch._fake_quantize_learnable_per_tensor_affine(
        weight.requires_grad_(), step, torch.zeros(1), low, high, 1 / np.sqrt(len(w) * high)
    )
    (expected,) = torch.autograd.grad(y, step, gradient)
    v = w / scale
    codes = np.round(v).clip(low, high)
    inside, root = np.round(v) == codes, np.sqrt(len(w) * high)
    slope = np.where(inside, codes - v, codes)
    total = (g * slope).sum()
    looks_like = {
        UNSCALED: total,
        HELD: (g * codes).sum() / root,
        OTHER_SIGN: (g * np.where(inside, v - codes, codes)).sum() / root,
        NO_ENDS: (g * np.where(inside, codes - v, 0)).sum() / root,
        ONE_END: (g * np.where(inside, codes - v, high)).sum() / root,
        MEAN: total / len(w),
        ONLY_N: total / np.sqrt(len(w)),
        ROOTLESS: total / (len(w) * high),
        IN_VALUES: (g * (codes * scale - w)).sum() / root,
        EACH: g * slope / root,
    }
    right = total / root
    looks_like = {said: wrong for said, wrong in looks_like.items() if not _near(wrong, right)}
    arguments = (gradient, weight.detach(), scale, low, high)
    return Case(arguments, expected.squeeze(), STEP_GENERAL, _tensors(looks_like), 1e-3)


def _off_edges(w, scale):
    """Move weights that lie next to an edge between two codes to the middle of a code."""
    v = w / scale
    return np.where(np.abs(np.abs(v - np.round(v)) - 0.5) < 0.02, np.round(v), v) * scale


def _near(wrong, right) -> bool:
    return np.shape(wrong) == np.shape(right) and np.allclose(wrong, right, rtol=1e-3)


def _tensors(looks_like: dict) -> dict:
    return {said: torch.as_tensor(np.asarray(wrong)) for said, wrong in looks_like.items()}
