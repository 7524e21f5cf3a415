"""Sensitivity from data that runs once, inside of no_grad, and with losses that mean nothing."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from labkit.hessian import hessian_sensitivity
from labkit.sensitivity import measure_sensitivity


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))


def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(16, 8, generator=generator), torch.randint(0, 3, (16,), generator=generator)


def test_calibration_data_may_be_a_generator():
    x, net = batch()[0], network()

    def quality(model):
        return -(model(x) - net(x)).detach().square().mean()

    tables = [
        measure_sensitivity(net, quality, (2, 4), method="static", calibration_data=data)
        for data in ([x], (part for part in [x]))
    ]
    assert np.array_equal(tables[0].quality, tables[1].quality)


def test_the_curvature_is_computed_inside_of_no_grad_too():
    table = hessian_sensitivity(network(), [batch()], bits=(2,))
    with torch.no_grad():
        assert np.array_equal(hessian_sensitivity(network(), [batch()], bits=(2,)).loss, table.loss)


@pytest.mark.parametrize("curvature", ["diagonal", "trace", "full"])
def test_a_loss_of_nan_predicts_nothing(curvature):
    inputs, targets = batch()
    data = [(torch.full_like(inputs, math.nan), targets)]
    with pytest.raises(ValueError, match="the loss or its curvature is not finite"):
        hessian_sensitivity(network(), data, bits=(2,), curvature=curvature)
