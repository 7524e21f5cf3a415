"""What enters a layer, quantized there: by hand formulas, and torch's own choice of a grid."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from labkit.activations import ActivationQuantizer
from labkit.observers import MinMaxObserver
from labkit.qparams import QParams


def by_hand(x, bits=8):
    """Unsigned affine, in float64 with numpy: the formula of the document, range widened to 0."""
    x = np.asarray(x, dtype=np.float64)
    low, high = min(x.min(), 0.0), max(x.max(), 0.0)
    scale = np.float64(np.float32((high - low) / (2**bits - 1)))
    zero_point = np.round(-low * (2**bits - 1) / (high - low))
    codes = np.clip(np.round(x / scale) + zero_point, 0, 2**bits - 1)
    return (codes - zero_point) * scale


@given(bits=st.integers(2, 8), seed=st.integers(0, 2**16), shift=st.floats(-3, 3))
def test_dynamic_chooses_the_grid_from_what_arrives(bits, seed, shift):
    x = torch.randn(40, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift
    ours = ActivationQuantizer(bits)(x)
    assert np.allclose(ours, by_hand(x, bits), atol=1e-6)


def test_per_token_gives_each_token_a_grid_of_its_own():
    x = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(0))
    x[0, 0] *= 1000
    ours = ActivationQuantizer(8, per_token=True)(x)
    for token, result in zip(x.reshape(-1, 16), ours.reshape(-1, 16), strict=True):
        assert np.allclose(result, by_hand(token), rtol=1e-4, atol=1e-5)


def test_without_tokens_per_token_is_one_grid():
    x = torch.randn(6, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ActivationQuantizer(8, per_token=True)(x), ActivationQuantizer(8)(x))


def test_a_huge_token_does_not_hurt_the_others():
    x = torch.randn(1, 4, 64, generator=torch.Generator().manual_seed(0))
    x[0, 0, 0] = 2380.0
    error = [
        (ActivationQuantizer(8, per_token=per_token)(x) - x)[0, 1:].norm()
        for per_token in (True, False)
    ]
    assert error[0] < 0.02 * error[1]


def test_static_is_torchs_fake_quantize():
    x = torch.randn(100, generator=torch.Generator().manual_seed(0))
    static = ActivationQuantizer(8, "static", qparams=QParams(0.02, 100, 0, 255))
    assert torch.allclose(static(x), torch.fake_quantize_per_tensor_affine(x, 0.02, 100, 0, 255))


def test_codes_are_the_integers_behind_the_simulation():
    x = torch.randn(100, generator=torch.Generator().manual_seed(0))
    static = ActivationQuantizer(8, "static", qparams=QParams(0.02, 100, 0, 255))
    codes = static.codes(x)
    assert codes.dtype == torch.uint8
    assert torch.equal((codes.float() - 100) * torch.tensor(0.02), static(x))


def test_observing_changes_nothing_and_then_freezes_what_it_saw():
    observing = ActivationQuantizer(8, "observe", observer=MinMaxObserver(bits=8))
    x = torch.tensor([-1.0, 1.55])
    assert torch.equal(observing(x), x)
    frozen = observing.frozen()
    assert frozen.mode == "static"
    assert torch.allclose(frozen.qparams.scale, torch.tensor(0.01)) and frozen.zero_point == 100


@pytest.mark.parametrize("per_token", [True, False])
def test_an_empty_batch_passes(per_token):
    x = torch.empty(0, 3, 4)
    assert ActivationQuantizer(8, per_token=per_token)(x).shape == (0, 3, 4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_type_of_the_input_is_kept(dtype):
    assert ActivationQuantizer(8, per_token=True)(torch.ones(1, 2, 3, dtype=dtype)).dtype == dtype


def test_the_grid_stays_float32_in_a_half_precision_model():
    model = nn.Sequential(ActivationQuantizer(8, "static", qparams=QParams(0.1, 3, 0, 255))).half()
    assert model[0].scale == torch.tensor(0.1) and model[0].scale.dtype == torch.float32


def test_only_a_static_grid_is_stored():
    assert not ActivationQuantizer(8).state_dict()
    stored = ActivationQuantizer(8, "static", qparams=QParams(0.1, 3, 0, 255)).state_dict()
    assert {name: t.nbytes for name, t in stored.items()} == {"scale": 4, "zero_point": 4}


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: ActivationQuantizer(9), "from 2 to 8"),
        (lambda: ActivationQuantizer(8, "statically"), "observe, static, dynamic"),
        (lambda: ActivationQuantizer(8, "static"), "'static' needs qparams"),
        (lambda: ActivationQuantizer(8, "observe"), "'observe' needs observer"),
        (lambda: ActivationQuantizer(8, qparams=QParams(1, 0, 0, 1)), "'dynamic' takes no qparams"),
        (lambda: ActivationQuantizer(8).frozen(), "this one is dynamic"),
        (lambda: ActivationQuantizer(8)(torch.tensor([1.0, torch.inf])), "must be finite"),
    ],
)
def test_bad_input_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
