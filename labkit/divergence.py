"""How far a model's answers are from those of the float model: finer than right or wrong."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from labkit.calibration import arguments_of


class MinusDivergence:
    """A quality for `measure_sensitivity`: minus the mean divergence from the float model, in nats.

    KL(p ‖ q) = Σ p (log p − log q) over the last dimension, p and q being the softmax of the scores
    of the float and of the other model; 0 where they answer alike, more the surer p was of what q
    doubts. It tells layers apart long before any answer turns over, and needs no labels. batches:
    inputs as `labkit.calibration.calibrate` takes them. Can be sent to other processes. Raises
    ValueError for no batches, and for scores that are not finite. Source: Kullback & Leibler 1951.

    >>> net = nn.Linear(2, 3)
    >>> quality = MinusDivergence(net, torch.eye(2))
    >>> abs(quality(net)) < 1e-6, quality(nn.Linear(2, 3)) < 0
    (True, True)
    """

    unit = "nats"

    def __init__(self, model: nn.Module, batches: Iterable) -> None:
        """Keep the batches, and what `model` says about them."""
        self.batches = [batches] if isinstance(batches, Tensor) else list(batches)
        if not self.batches:
            raise ValueError("there are no batches to compare answers on; give a list of inputs")
        self.wanted = [_log_shares(model, batch) for batch in self.batches]

    def __call__(self, model: nn.Module) -> float:
        """Return minus the divergence of `model`."""
        total, count = 0.0, 0
        for batch, wanted in zip(self.batches, self.wanted, strict=True):
            divergence = (wanted.exp() * (wanted - _log_shares(model, batch))).sum(-1)
            total, count = total + divergence.sum().item(), count + divergence.numel()
        return -total / count


def _log_shares(model: nn.Module, batch: object) -> Tensor:
    arguments, named = arguments_of(model, batch)
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with torch.no_grad():
            scores = model(*arguments, **named)
    finally:
        for module, training in modes:
            module.training = training
    if not torch.isfinite(scores).all():
        raise ValueError("the model answered with NaN or infinity")
    # In float64, as differences of large logarithms are small.
    return scores.double().log_softmax(-1)
