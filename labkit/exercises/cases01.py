"""How the exercises of notebook 01 are judged.

The judge's own arithmetic: exact fractions, numpy's float64, whole Python numbers.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor, tensor

from labkit.exercises.compare import INTEGER
from labkit.exercises.core import Case

SEEDS = (0, 1, 2)


def ranges() -> list[Case]:
    """Cases of exercise 1.1: (low, high, bits) → (scale, zero point)."""
    share = "s is the width of the range divided by the steps between 2^b levels."
    shift = "z = round(−min / s)."
    first = {
        "2^b levels have only 2^b − 1 steps between them: divide by 2^b − 1.": (0.75, 1),
        "The sign of min is lost: z = round(−min / s) counts steps from min up to 0.": (1.0, -1),
    }
    rounding = {
        "You cut off (int and // do) instead of rounding to the nearest.": (1.0, 1),
        "z must be a whole number, so that 0 has a code of its own: round it.": (1.0, 1.75),
    }
    half = {"0.5 lies half-way: round half to even (Python's round), not up.": (1.0, 1)}
    half_precision = torch.tensor(2 / 255, dtype=torch.float16).item()
    example = {
        "z = 127: the tie 127.5 is lost. Compute in float64 (Python floats), not in float32, and "
        "add nothing to s.": (2 / 255, 127),
        "The scale was rounded to half precision; keep it in float64 here.": (half_precision, 128),
        "Do not use the rounded 0.00784: keep every digit of s.": (0.00784, 128),
    }
    above = {
        "Widen the range first, so that it contains zero: low = min(low, 0).": (0.5, -1),
        "Clamping z is not enough: widen the range, so that it contains zero.": (0.5, 0),
    }
    below = {"Widen the range upwards too: high = max(high, 0).": (0.5, 4)}
    zero = "The range of an all zero tensor has no width; return (1.0, 0), any step will do."
    constant = {"Ask for the width after widening: from 0 to 3 it is 3, not 0.": (1.0, 0)}
    negative = {"A range below zero ends at 0: z = 2^b − 1, the last code.": (2 / 15, 0)}
    narrow_scale = "A narrow range has a narrow step: s needs no floor and nothing added to it."
    narrow = {"Only a range of width 0 has no step; a width of 9e-7 is not 0.": (1.0, 0)}
    # Every symmetric range is a tie, and the task's formula misses some: -low / s may come out as
    # 127.49999999999999. The cases keep to ranges such as [-1, 1], where it does not.
    cases = [
        Case((-1.0, 2.0, 2), (1.0, 1), share, first),
        Case((-1.75, 1.25, 2), (1.0, 2), shift, rounding),
        Case((-0.5, 2.5, 2), (1.0, 0), shift, half),
        Case((-1.0, 1.0, 8), (2 / 255, 128), "This is Example 1.", example),
        Case((0.5, 2.0, 2), (2 / 3, 0), "The range must contain zero.", above),
        Case((-2.0, -0.5, 2), (2 / 3, 3), "The range must contain zero.", below),
        Case((0.0, 0.0, 8), (1.0, 0), zero),
        Case((3.0, 3.0, 8), (3 / 255, 0), "All values are 3: the range is 0 to 3.", constant),
        Case((-2.0, -2.0, 4), (2 / 15, 15), "All values are −2: the range is −2 to 0.", negative),
        Case((-2e-7, 7e-7, 4), (6e-8, 3), narrow_scale, narrow),
    ]
    for seed in SEEDS:
        random = np.random.default_rng(seed)
        low, high = sorted(random.normal(size=2).tolist())
        bits = int(random.integers(2, 9))
        cases.append(Case((low, high, bits), _exact_range(low, high, bits), share))
    return cases


def _exact_range(low: float, high: float, bits: int) -> tuple[float, int]:
    left, right = min(Fraction(low), Fraction(0)), max(Fraction(high), Fraction(0))
    step = (right - left) / (2**bits - 1)
    return float(step), round(-left / step)


def codes() -> list[Case]:
    """Cases of exercise 1.2: (x, scale, zero point, quant_min, quant_max) → codes."""
    rule = "q = clamp(round(x / s) + z, quant_min, quant_max)."
    plain = {
        "You always rounded down (floor); take the nearest whole number.": tensor([0, 3, 5]),
        "The cast cut digits off (truncation): round first.": tensor([1, 3, 5]),
        "Divide x by the scale; you multiplied.": tensor([2, 3, 4]),
        "The zero point is missing: add z after rounding.": tensor([0, 1, 3]),
        "Cast to uint8 before adding the zero point, −2 wrapped to 254.": tensor([15, 4, 6]),
        "quant_min and quant_max are swapped in the clamp.": tensor([0, 0, 0]),
        "Clamp last, after adding z: the bounds are bounds of codes.": tensor([3, 4, 6]),
    }
    outside = {
        "There is no clamp: codes leave the range 0..15.": tensor([-3, 5, 21]),
        "Without a clamp −3 wrapped to 253 in uint8.": tensor([253, 5, 21]),
        "You clamp after the cast, when −3 had wrapped to 253: clamp first.": tensor([15, 5, 15]),
    }
    half_way = {
        "Half-way goes to the even neighbor (torch.round), not up.": tensor([4, 5, 6, 3]),
        "Half-way goes to the even neighbor, not away from zero.": tensor([4, 5, 6, 2]),
        "Round x / s first and add z afterwards: an odd z swaps even and odd.": tensor(
            [4, 4, 6, 2]
        ),
    }
    signed = {
        "For signed codes clamp with both bounds, not from 0 up.": tensor([0, 4]),
        "uint8 has no negative codes: −4 became 252. Cast to torch.int32.": tensor([252, 4]),
    }
    reciprocal = {
        "Divide by s; times its reciprocal 1 / s is another number in float32.": tensor([16])
    }
    flat = {"A single number is a tensor too: keep its shape, which has no sizes.": tensor([5])}
    ties = tensor([0.25, 0.75, 1.25, -0.25])
    cases = [
        Case((tensor([-1.1, 0.3, 1.4]), 0.5, 3, 0, 15), tensor([1, 4, 6]), rule, plain),
        Case((tensor([-3.0, 1.0, 9.0]), 0.5, 3, 0, 15), tensor([0, 5, 15]), rule, outside),
        Case((ties, 0.5, 3, 0, 15), tensor([3, 5, 5, 3]), "Round half to even.", half_way),
        Case((tensor([-1.0, 1.0]), 0.25, 0, -8, 7), tensor([-4, 4]), rule, signed),
        Case((tensor(0.8), 0.5, 3, 0, 15), tensor(5), "x has any shape, also none.", flat),
        *(_far_outside(*row) for row in TOO_FAR),
        Case((tensor([1.55]), 0.1, 0, 0, 255), tensor([15]), rule, reciprocal),
    ]
    for seed in SEEDS:
        x = torch.randn(4, 5, generator=torch.Generator().manual_seed(seed)) * 3
        grid = ((0.03, 128, 0, 255), (0.4, -3, -8, 7), (1.0, 1, 0, 3))[seed]
        cases.append(Case((x, *grid), _numpy_codes(x, *grid), rule))
    # "The numbers are right, but …" is said of a type only when they are right everywhere.
    return [*cases, *(replace(case, dtype=INTEGER) for case in cases)]


# A whole-number type, a value that it cannot hold, and the codes that a cast before the clamp makes
# of this value and its negative.
TOO_FAR = (
    ("int8", 200.0, [0, 15]),
    ("int16", 4e4, [0, 15]),
    ("int32", 1e12, [0, 0]),
    ("int64", 1e30, [0, 0]),
)


def _far_outside(wraps: str, value: float, wrapped: list[int]) -> Case:
    rule = "Clamp before the cast, while the codes are still floats: then nothing can wrap."
    known = {
        f"You cast to {wraps} before the clamp, and {value:g} wrapped around: clamp first, "
        "cast last.": tensor(wrapped)
    }
    return Case((tensor([value, -value]), 1.0, 3, 0, 15), tensor([15, 0]), rule, known)


def _numpy_codes(x: Tensor, scale: float, zero_point: int, low: int, high: int) -> Tensor:
    steps = np.rint(x.double().numpy() / scale) + zero_point
    return torch.from_numpy(np.clip(steps, low, high).astype(np.int64))


def round_trips() -> list[Case]:
    """Cases of exercise 1.3: (q, x, scale, zero point) → (x', E)."""
    rule = "x' = (q − z) · s and E = |x − x'|, in this order."
    q, x = tensor([3, 8, 10], dtype=torch.uint8), tensor([-2.75, 0.125, 1.0])
    back = tensor([-2.5, 0.0, 1.0])
    plain = {
        "3 − 8 wrapped to 251: uint8 has no negative numbers. Make q a float first.": _trip(
            x, [125.5, 0.0, 1.0]
        ),
        "Take off the zero point before multiplying by s, not after.": _trip(x, [-6.5, -4.0, -3.0]),
        "The zero point is added; take it off: (q − z) · s.": _trip(x, [5.5, 8.0, 9.0]),
        "The zero point is missing: (q − z) · s.": _trip(x, [1.5, 4.0, 5.0]),
        "Multiply by the scale; you divided.": _trip(x, [-10.0, 0.0, 4.0]),
        "E is an absolute value: it has no sign.": (back, x - back),
        "E is not squared here: E = |x − x'|.": (back, (x - back).square()),
        "E has one entry per value; do not take the maximum.": (back, tensor(0.25)),
    }
    high_code, third = tensor([200], dtype=torch.uint8), tensor([7], dtype=torch.uint8)
    int8 = {
        "Code 200 became −56: int8 ends at 127. Make q a float.": _trip(tensor([36.25]), [-92.0])
    }
    half = tensor([7 / 3], dtype=torch.float16)
    precision = {"That is half precision: keep x' in float32.": (half, (2.0 - half).abs())}
    cases = [
        Case((q, x, 0.5, 8), _trip(x, back.tolist()), rule, plain),
        Case((high_code, tensor([36.25]), 0.5, 128), _trip(tensor([36.25]), [36.0]), rule, int8),
        Case((third, tensor([2.0]), 1 / 3, 0), _trip(tensor([2.0]), [7 / 3]), rule, precision),
    ]
    for seed in SEEDS:
        random = np.random.default_rng(seed)
        q, x = random.integers(0, 256, (2, 3)), random.normal(size=(2, 3))
        scale, zero_point = float(random.uniform(0.001, 0.1)), int(random.integers(0, 256))
        wanted = (q - zero_point) * scale
        given = (tensor(q, dtype=torch.uint8), tensor(x, dtype=torch.float32), scale, zero_point)
        result = (tensor(wanted), tensor(np.abs(x - wanted)))
        cases.append(Case(given, result, rule, tolerance=1e-5))
    return cases


def _trip(x: Tensor, back: list[float]) -> tuple[Tensor, Tensor]:
    return tensor(back), tensor([abs(a - b) for a, b in zip(x.tolist(), back, strict=True)])


def symmetric_scales() -> list[Case]:
    """Cases of exercise 1.4: (x, bits, rule) → scale."""
    left, right, none = tensor([-1.0, 0.5]), tensor([-0.5, 1.0]), torch.zeros(3)
    half_precision = torch.tensor(1 / 127, dtype=torch.float16).item()
    restricted = {
        "restricted divides by 127, the largest positive code, not by 128.": 1 / 128,
        "127.5 belongs to the rule full; restricted divides by 127.": 1 / 127.5,
        "Take max(|x|), not |max(x)|: here −1 reaches further than 0.5.": 0.5 / 127,
        "That is the affine scale; a symmetric one is made from amax = max(|x|).": 1.5 / 255,
        "The scale was rounded to half precision; return it as it is.": half_precision,
    }
    full = {
        "full divides by 127.5, half of the 255 steps, not by 127.": 1 / 127,
        "full divides by 127.5, half of the 255 steps, not by 128.": 1 / 128,
    }
    no_clip = {
        "no_clip looks at each side: −1 has 128 steps below zero, not 127.": 1 / 127,
        "The minus before min is lost: −min is how far the range reaches down.": 0.5 / 127,
    }
    above = {"no_clip: there are only 7 steps above zero, not 8; 1 would clip.": 1 / 8}
    zero = "For an all zero tensor return 1.0: nothing can be divided by 0."
    both = "no_clip: max(−min / 2^(b−1), max / (2^(b−1) − 1))."
    cases = [
        Case((left, 8, "restricted"), 1 / 127, "restricted: amax / (2^(b−1) − 1).", restricted),
        Case((left, 8, "full"), 1 / 127.5, "full: amax / ((2^b − 1) / 2).", full),
        Case((left, 8, "no_clip"), 1 / 128, both, no_clip),
        Case((right, 4, "no_clip"), 1 / 7, both, above),
        *(Case((none, 4, rule), 1.0, zero) for rule in ("restricted", "full", "no_clip")),
    ]
    for seed in SEEDS:
        x = torch.randn(3, 4, generator=torch.Generator().manual_seed(seed))
        bits, values = (2, 3, 8)[seed], x.flatten().tolist()
        down, up, levels = max(0.0, -min(values)), max(0.0, max(values)), 1 << (2, 3, 8)[seed]
        for rule, wanted in (
            ("restricted", 2 * max(down, up) / (levels - 2)),
            ("full", 2 * max(down, up) / (levels - 1)),
            ("no_clip", max(2 * down / levels, 2 * up / (levels - 2))),
        ):
            cases.append(Case((x, bits, rule), wanted, f"{rule} gives another scale."))
    return cases
