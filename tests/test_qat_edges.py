"""Training under quantization: what would be lost, mixed up or misread is refused before it is."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

from labkit.qat import train_quantized
from labkit.qat_schedule import train_progressively
from labkit.qparams import choose_qparams
from labkit.quantize import quantize_model


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))


def batches():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(32, 8, generator=generator)
    y = torch.randint(0, 3, (32,), generator=generator)
    return list(zip(x.split(16), y.split(16), strict=True))


def at(bits, **options):
    choose = partial(choose_qparams, bits=bits, symmetric=True, signed=True, **options)
    return dict.fromkeys(("0", "2"), choose)


@pytest.mark.parametrize("step_rule", ["range", "learned"])
@pytest.mark.parametrize("other", [at(4, axis=0), at(2), at(2, axis=0, scale_rule="full")])
def test_a_checkpoint_of_other_grids_is_another_training(step_rule, other, tmp_path):
    options = {"checkpoint": tmp_path / "c", "step_rule": step_rule}
    train_quantized(network(), at(2, axis=0), batches(), 1, **options)
    with pytest.raises(ValueError, match="the model or its grids start from other numbers"):
        train_quantized(network(), other, batches(), 1, **options)


@pytest.mark.parametrize("place", [50, -300, -1])
def test_a_damaged_checkpoint_is_refused_whichever_byte_it_is(place, tmp_path):
    path = tmp_path / "c"
    train_quantized(network(), at(2), batches(), 1, checkpoint=path)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="is not a checkpoint of train_quantized, or is damaged"):
        train_quantized(network(), at(2), batches(), 1, checkpoint=path)


@pytest.mark.parametrize("content", [b"", b"no file of ours", save({"a": torch.ones(2)})])
def test_another_file_is_neither_read_nor_overwritten(content, tmp_path):
    path = tmp_path / "c"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not a checkpoint of train_quantized, or is damaged"):
        train_quantized(network(), at(2), batches(), 1, checkpoint=path)
    assert path.read_bytes() == content


def test_a_checkpoint_that_cannot_be_written_is_refused_before_training(tmp_path):
    seen = []
    for path, words in ((tmp_path / "no" / "c", "there is no folder"), (tmp_path, "is a folder")):
        with pytest.raises(ValueError, match=words):
            train_quantized(
                network(), at(2), batches(), 1, checkpoint=path, after_batch=seen.append
            )
    assert not seen


def test_numbers_of_numpy_reach_the_checkpoint(tmp_path):
    options = {"learning_rate": np.float32(1e-3), "checkpoint": tmp_path / "c"}
    options |= {"max_norm": np.float32(1), "patience": np.int64(2), "validate": lambda m: 0.5}
    trained = train_quantized(network(), at(2), batches(), np.int64(2), **options)
    again = train_quantized(network(), at(2), batches(), np.int64(2), **options)
    assert trained.history == again.history


def test_a_quality_that_is_no_number_is_no_best_one():
    with pytest.raises(ValueError, match="validate returned nan after epoch 1"):
        train_quantized(network(), at(2), batches(), 3, validate=lambda model: math.nan, patience=1)


def test_a_schedule_with_the_same_width_twice_keeps_a_file_for_each(tmp_path):
    options = {"train_loader": batches(), "num_epochs": 3, "checkpoint": tmp_path / "c.st"}
    first, model = network(), network()
    train_progressively(first, (4, 2, 4), **options)
    train_progressively(model, (4, 2, 4), **options)
    assert len(list(tmp_path.iterdir())) == 3
    assert torch.equal(model[0].weight, first[0].weight)


def test_a_generator_is_refused_before_it_is_used_up():
    data = iter(batches())
    with pytest.raises(ValueError, match="run through 2 times, and a list_iterator is used up"):
        train_quantized(network(), at(2), data, 2)
    with pytest.raises(ValueError, match="run through 2 times"):
        train_progressively(network(), (4, 2), train_loader=data, num_epochs=(1, 1))
    # The control is the second run.
    with pytest.raises(ValueError, match="run through 2 times"):
        quantize_model(
            network(), "qat", train_loader=data, num_epochs=1, evaluate=lambda model: 0.5
        )
    assert len(list(data)) == 2


def test_a_frozen_model_has_nothing_to_train_but_steps():
    model = network().requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter of the model can be trained"):
        train_quantized(model, at(2), batches(), 1)
    before = model[0].weight.clone()
    trained = train_quantized(model, at(2), batches(), 1, step_rule="learned")
    assert trained.ended == "finished" and torch.equal(model[0].weight, before)


@pytest.mark.parametrize("step_rule", ["range", "learned"])
def test_layers_and_inputs_of_nothing_but_zeros_train(step_rule):
    model, (inputs, targets) = network(), batches()[0]
    model[0].weight.data.zero_()
    data = [(torch.zeros_like(inputs), targets)]
    assert train_quantized(model, at(2), data, 1, step_rule=step_rule).ended == "finished"


@pytest.mark.parametrize("step_rule", ["range", "learned"])
def test_stopped_after_the_first_batch_the_model_is_quantized_and_runs(step_rule):
    training = {"stop": lambda: True, "step_rule": step_rule}
    quantized, report = quantize_model(
        network(), "qat", bits=2, train_loader=batches(), num_epochs=5, training=training
    )
    assert quantized(batches()[0][0]).isfinite().all()
    assert report.control_quality is None


@pytest.mark.parametrize("step_rule", ["range", "learned"])
def test_a_value_that_is_not_finite_is_found_at_its_layer(step_rule):
    (inputs, targets), *_ = batches()
    broken = inputs.clone()
    broken[3, 5] = math.nan
    with pytest.raises(ValueError, match="the input of layer '0': the values must be finite"):
        train_quantized(network(), at(2), [(broken, targets)], 1, step_rule=step_rule)
    model = network()
    model[2].weight.data[0, 0] = math.inf
    with pytest.raises(ValueError, match="the weight of layer '2': the values must be finite"):
        train_quantized(model, at(2), batches(), 1, step_rule=step_rule)


@pytest.mark.parametrize("name", ["loss", "validate", "stop", "after_batch", "after_epoch"])
def test_what_is_no_function_is_refused_by_its_name(name):
    with pytest.raises(ValueError, match=f"{name} must be a function, .* got 3"):
        train_quantized(network(), at(2), batches(), 1, **{name: 3})


def test_the_projections_of_attention_ask_to_be_split_first():
    model = nn.Sequential(nn.MultiheadAttention(8, 2), nn.Linear(8, 3))
    with pytest.raises(ValueError, match=r"split it first, labkit.attention.split_attention"):
        train_progressively(model, train_loader=batches(), num_epochs=3)
