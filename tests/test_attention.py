"""Split attention computes what torch's module computes, with every option that it takes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from labkit.attention import SplitAttention, can_split, projections, split_attention


def attention(seed=0, **options):
    torch.manual_seed(seed)
    made = nn.MultiheadAttention(12, 3, **options).eval()
    if made.in_proj_bias is not None:
        # Torch starts with zeros, which hide mistakes.
        nn.init.normal_(made.in_proj_bias)
        nn.init.normal_(made.out_proj.bias)
    return made


def agree(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.allclose(one, other, rtol=1e-5, atol=1e-6)


@given(
    batch_first=st.booleans(),
    bias=st.booleans(),
    sizes=st.sampled_from([{}, {"kdim": 5, "vdim": 7}]),
    mask=st.sampled_from(["none", "bool", "float", "per head"]),
    padding=st.sampled_from(["none", "bool", "float"]),
    need_weights=st.booleans(),
    average=st.booleans(),
)
def test_every_option_gives_torchs_result(
    batch_first, bias, sizes, mask, padding, need_weights, average
):
    theirs = attention(batch_first=batch_first, bias=bias, **sizes)
    n, tokens, keys = 2, 4, 6
    shapes = [(n, tokens, 12), (n, keys, sizes.get("kdim", 12)), (n, keys, sizes.get("vdim", 12))]
    inputs = [torch.randn(shape) for shape in shapes]
    if not batch_first:
        inputs = [x.transpose(0, 1) for x in inputs]
    hidden = torch.triu(torch.ones(tokens, keys, dtype=torch.bool), 2)
    masks = {
        "none": None,
        "bool": hidden,
        "float": torch.zeros(tokens, keys).masked_fill(hidden, -torch.inf),
        "per head": hidden.expand(n * 3, -1, -1),
    }
    padded = torch.zeros(n, keys, dtype=torch.bool)
    padded[1, 4:] = True
    options = {
        "attn_mask": masks[mask],
        "key_padding_mask": {
            "none": None,
            "bool": padded,
            "float": torch.zeros(n, keys).masked_fill(padded, -torch.inf),
        }[padding],
        "need_weights": need_weights,
        "average_attn_weights": average,
    }
    with torch.no_grad():
        agree(SplitAttention(theirs)(*inputs, **options), theirs(*inputs, **options))


def test_one_sequence_without_a_batch():
    theirs = attention()
    x, padded = torch.randn(4, 12), torch.tensor([False, False, False, True])
    agree(
        SplitAttention(theirs)(x, x, x, key_padding_mask=padded),
        theirs(x, x, x, key_padding_mask=padded),
    )


def test_causal_is_a_hint_beside_the_mask():
    theirs, x = attention(batch_first=True), torch.randn(1, 4, 12)
    mask = nn.Transformer.generate_square_subsequent_mask(4)
    options = {"attn_mask": mask, "is_causal": True, "need_weights": False}
    agree(SplitAttention(theirs)(x, x, x, **options), theirs(x, x, x, **options))
    with pytest.raises(ValueError, match="attn_mask"):
        SplitAttention(theirs)(x, x, x, is_causal=True)


def test_the_projections_are_slices_of_the_joint_weight():
    theirs = attention()
    layers = projections(theirs)
    joint = torch.cat([layers[name].weight for name in ("q_proj", "k_proj", "v_proj")])
    assert torch.equal(joint, theirs.in_proj_weight)
    assert layers["out_proj"].weight.data_ptr() == theirs.out_proj.weight.data_ptr()


@pytest.mark.parametrize("options", [{"add_bias_kv": True}, {"add_zero_attn": True}])
def test_what_cannot_be_split_is_known(options):
    assert not can_split(attention(**options))
    assert not can_split(nn.Linear(2, 2))


class Own(nn.MultiheadAttention):
    pass


def test_a_subclass_is_left_alone():
    assert not can_split(Own(4, 2))


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("norm_first", [False, True])
def test_torchs_encoder_computes_the_same_around_it(padded, norm_first):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(12, 2, 24, batch_first=True, norm_first=norm_first)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=not norm_first).eval()
    x = torch.randn(2, 5, 12)
    mask = torch.zeros(2, 5, dtype=torch.bool)
    mask[1, 3:] = padded
    with torch.no_grad():
        expected = encoder(x, src_key_padding_mask=mask)
        names = [name for name, module in encoder.named_modules() if can_split(module)]
        ours = split_attention(encoder, names)(x, src_key_padding_mask=mask)
    # Behind the padding torch's nested tensors hold zeros.
    assert torch.allclose(ours[~mask], expected[~mask], atol=1e-5)


def test_torchs_decoder_computes_the_same_around_it():
    torch.manual_seed(0)
    model = nn.Transformer(12, 2, 1, 1, 24, batch_first=True).eval()
    x, y = torch.randn(2, 5, 12), torch.randn(2, 3, 12)
    with torch.no_grad():
        expected = model(x, y)
        names = [name for name, module in model.named_modules() if can_split(module)]
        assert len(names) == 3
        assert torch.allclose(split_attention(model, names)(x, y), expected, atol=1e-5)


@pytest.mark.parametrize("gradient", [True, False])
def test_every_layer_of_torchs_encoder_is_really_called(gradient):
    """Torch's fused kernel reads the weights and calls no layer: no quantizer would run."""
    layer = nn.TransformerEncoderLayer(12, 2, 24, batch_first=True).eval()
    layer = split_attention(layer, ["self_attn"])
    called = set()
    for name in ("linear1", "linear2", "self_attn.q_proj", "self_attn.out_proj"):
        module = layer.get_submodule(name)
        forward = module.forward
        module.forward = lambda x, name=name, forward=forward: (called.add(name), forward(x))[1]
    with torch.set_grad_enabled(gradient):
        layer(torch.randn(2, 5, 12))
    assert called == {"linear1", "linear2", "self_attn.q_proj", "self_attn.out_proj"}


def test_attention_that_stands_twice_stays_one():
    shared = attention()
    model = split_attention(nn.ModuleList([shared, shared]), ["0"])
    assert model[0] is model[1] and isinstance(model[0], SplitAttention)


def test_a_model_that_is_attention_itself():
    assert isinstance(split_attention(attention(), [""]), SplitAttention)
