"""Whole linear stages on ONNX Runtime, code by code."""

import pytest
import torch
from torch import nn

from labkit.explorers.integer_net import image_codes, stages
from labkit.integer_model import integer_stages
from labkit.integer_onnx import onnx_runtime_codes
from labkit.quantize import quantize_model


def test_every_code_of_the_trained_network_is_the_engines():
    codes = image_codes()[:300]
    for stage in stages()[:2]:
        ours = stage(codes, "float")
        assert torch.equal(onnx_runtime_codes(stage, codes), ours)
        codes = ours


def test_a_layer_without_bias_works():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 5, bias=False), nn.Linear(5, 2))
    x = torch.randn(20, 6)
    quantized, _ = quantize_model(net, "static", calibration_data=[x])
    first = integer_stages(quantized)[1][0]
    codes = first.layer.input_quantizer.codes(x)
    assert torch.equal(onnx_runtime_codes(first, codes), first(codes, "float"))


def stage_of(net, x, number=0, **options):
    return integer_stages(quantize_model(net, "static", calibration_data=[x], **options)[0])[1][
        number
    ]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda x: stage_of(nn.Sequential(nn.Linear(4, 2)), x), "no linear layer with an output"),
        (
            lambda x: stage_of(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), x, symmetric=False),
            "must be symmetric",
        ),
        (
            lambda x: stage_of(
                nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), x, activation_bits=7
            ),
            "codes of 0 to 255",
        ),
    ],
)
def test_what_the_operator_cannot_express_is_refused(make, words):
    stage = make(torch.linspace(-1, 1, 20).reshape(5, 4))
    with pytest.raises(ValueError, match=words):
        onnx_runtime_codes(stage, torch.zeros(1, 4, dtype=torch.uint8))
