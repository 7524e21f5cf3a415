"""Attention is written as one operator where that computes the same, and only there."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from labkit.engine import Engine, operators
from labkit.onnx_export import export_onnx
from labkit.zoo_large import TransformerBlock

ONE = "MultiHeadAttention"


class Attention(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.options = options

    def forward(self, query, key, value):
        return functional.scaled_dot_product_attention(query, key, value, **self.options)


def parts(query=(2, 3, 5, 8), key=(2, 3, 7, 8), value=(2, 3, 7, 8)):
    state = torch.Generator().manual_seed(0)
    return tuple(torch.randn(shape, generator=state) for shape in (query, key, value))


@pytest.mark.parametrize(
    "inputs", [parts(), parts(value=(2, 3, 7, 4))], ids=["other tokens", "narrower values"]
)
def test_one_operator_computes_torchs_attention(inputs):
    file = export_onnx(Attention(), inputs, fused=True)
    assert ONE in operators(file)
    torch.testing.assert_close(Engine(file)(*inputs), Attention()(*inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"is_causal": True}, {"scale": 0.5}, {"attn_mask": torch.eye(5, 7).bool()}],
    ids=["causal", "scale", "mask"],
)
def test_attention_with_an_option_stays_what_it_is(options):
    inputs, model = parts(), Attention(**options)
    file = export_onnx(model, inputs, fused=True)
    assert ONE not in operators(file)
    torch.testing.assert_close(Engine(file)(*inputs), model(*inputs), rtol=1e-4, atol=1e-5)


def test_a_block_needs_no_transpose_around_it_and_takes_any_batch():
    block, x = TransformerBlock(16, 2).eval(), parts()[0].reshape(2, 15, 8).repeat(1, 1, 2)
    file = export_onnx(block, x[:1], fused=True)
    found = operators(file)
    assert ONE in found and "Transpose" not in found
    with torch.no_grad():
        torch.testing.assert_close(Engine(file)(x), block(x), rtol=1e-4, atol=1e-5)


def test_the_portable_form_holds_no_operator_of_onnx_runtime():
    assert ONE not in operators(export_onnx(Attention(), parts()), optimized=False)
