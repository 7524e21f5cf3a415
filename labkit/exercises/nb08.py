"""Exercises of notebook 08: straight through, a step of training, the step's start and gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from labkit.exercises import cases08, wrong08
from labkit.exercises.core import Exercise


def straight_through_gradient(
    gradient: Tensor, w: Tensor, scale: float, quant_min: int, quant_max: int
) -> Tensor:
    """dL/dw from gradient = dL/dQ(w); all of the shape of w, the zero point is 0."""
    codes = torch.round(w / scale)
    return gradient * ((codes >= quant_min) & (codes <= quant_max))


def training_step(w: Tensor, x: Tensor, y: Tensor, scale: float, learning_rate: float) -> Tensor:
    """The float weights after one step: w (n,), x (images, n), y (images,); codes -2 to 1."""
    from labkit.affine import QParams, fake_quantize

    w = w.clone().requires_grad_()
    loss = ((x @ fake_quantize(w, QParams(scale, 0, -2, 1)) - y) ** 2).mean()
    loss.backward()
    return (w - learning_rate * w.grad).detach()


def first_steps(w: Tensor, bits: int) -> Tensor:
    """LSQ's first step for each row of w (out, in): shape (out,); signed codes."""
    quant_max = 2 ** (bits - 1) - 1
    return 2 * w.abs().mean(dim=1) / quant_max**0.5


def step_gradient(
    gradient: Tensor, w: Tensor, scale: float, quant_min: int, quant_max: int
) -> Tensor:
    """dL/ds, one number, from gradient = dL/dQ(w) of the shape of w; scaled as LSQ does."""
    v = w / scale
    codes = torch.round(v).clamp(quant_min, quant_max)
    inside = torch.round(v) == codes
    slope = torch.where(inside, codes - v, codes)
    return (gradient * slope).sum() / (w.numel() * quant_max) ** 0.5


EXERCISES = (
    Exercise(
        id="8.1",
        title="Straight through",
        difficulty=1,
        minutes=6,
        hints=(
            "Two cases only: the code of a weight lies in the code range, or it does not.",
            "The code is round(w / scale), before it is clamped. A weight a little beyond the last "
            "level still rounds to it, and still learns.",
            "codes = torch.round(w / scale); gradient * ((codes >= quant_min) & (codes <= "
            "quant_max))",
        ),
        cases=cases08.straight_cases,
        solution=straight_through_gradient,
        praise="That is all of it: one comparison, and rounding can be trained through.",
        wrong=wrong08.STRAIGHT,
    ),
    Exercise(
        id="8.2",
        title="One step of training",
        difficulty=2,
        minutes=10,
        hints=(
            "Which weights compute the loss, and which weights move?",
            "fake_quantize(w, QParams(scale, 0, -2, 1)) is differentiable: let autograd do it. "
            "Take care to return the float weights.",
            "w = w.clone().requires_grad_(); loss = ((x @ fake_quantize(w, …) - y) ** 2).mean(); "
            "loss.backward(); return (w - learning_rate * w.grad).detach()",
        ),
        cases=cases08.training_cases,
        solution=training_step,
        praise="The rounded weights answer, the float ones remember. A few hundred such steps are "
        "quantization-aware training.",
        wrong=wrong08.TRAINING,
    ),
    Exercise(
        id="8.3",
        title="Where the step starts",
        difficulty=1,
        minutes=5,
        hints=(
            "One step for each row: over which dimension is the mean?",
            "2 · mean(|w|) / sqrt(quant_max), where quant_max is the largest signed code.",
            "2 * w.abs().mean(dim=1) / (2 ** (bits - 1) - 1) ** 0.5",
        ),
        cases=cases08.first_cases,
        solution=first_steps,
        praise="A mean does not care about the one largest weight. That is why it starts so much "
        "better than the range.",
        wrong=wrong08.FIRST,
    ),
    Exercise(
        id="8.4",
        title="The gradient of the step",
        difficulty=3,
        minutes=12,
        hints=(
            "Three kinds of weights: inside the range, clipped below, clipped above. What is "
            "dQ(w)/ds for each?",
            "Inside: round(w/s) − w/s. Clipped: the end code. Multiply by the gradient, sum over "
            "all weights, and divide by sqrt(N · quant_max).",
            "v = w / scale; codes = torch.round(v).clamp(quant_min, quant_max); slope = "
            "torch.where(torch.round(v) == codes, codes - v, codes); (gradient * slope).sum() / "
            "(w.numel() * quant_max) ** 0.5",
        ),
        cases=cases08.step_cases,
        solution=step_gradient,
        praise="Equation 3 of the paper. Rounding wants a smaller step, clipping a larger one, and "
        "the loss weighs them.",
        wrong=wrong08.STEP,
    ),
)
