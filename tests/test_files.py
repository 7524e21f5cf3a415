"""Files of quantized models: the same model again, counted to the byte; all else is refused."""

import copy
import json
import os
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as bytes_from_tensors
from safetensors.torch import save_file
from torch import nn

from labkit.files import header_bytes, load, read_recipe, save
from labkit.layers import QuantLayer, QuantLinear
from labkit.qparams import choose_qparams
from labkit.quantize import quantize_model
from labkit.report import stored_tensors
from labkit.zoo import MnistCNN, mnist_cnn, mnist_mlp

X = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
METHODS = ("weight_only", "dynamic", "static")


def on_meta(build):
    with torch.device("meta"):
        return build()


def saved(tmp_path, model, name="model.safetensors"):
    save(model, tmp_path / name)
    return tmp_path / name


def quantized_cnn(method="static", **options):
    return quantize_model(mnist_cnn(), method, calibration_data=[X], **options)


# ---------------------------------------------------------------- the way there and back


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("bits", "granularity"), [(8, "tensor"), (5, "channel"), (2, "channel")])
def test_the_loaded_model_computes_the_same_bit_for_bit(
    tmp_path, method, symmetric, bits, granularity
):
    model, report = quantized_cnn(method, bits=bits, symmetric=symmetric, granularity=granularity)
    path = saved(tmp_path, model)
    loaded = load(path, on_meta(MnistCNN))
    assert torch.equal(loaded(X), model(X))
    assert not loaded.training
    assert os.path.getsize(path) == report.quantized_bytes + header_bytes(path)


class Everything(nn.Module):
    """Each kind of layer, tied weights, a layer at two places, attention, buffers, float layers."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(12, 8, padding_idx=0)
        self.conv1 = nn.Conv1d(8, 8, 3, padding="same", padding_mode="reflect", bias=False)
        self.norm1 = nn.BatchNorm1d(8)
        self.again = nn.ModuleList([nn.Linear(8, 8)] * 2)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.grouped = nn.Conv1d(8, 8, 2, groups=4)
        self.transposed = nn.ConvTranspose1d(8, 8, 2)
        self.register_buffer("offset", torch.arange(3))
        self.position = nn.Parameter(torch.linspace(0, 1, 8))
        self.head = nn.Linear(8, 12, bias=False)
        self.head.weight = self.table.weight

    def forward(self, indices):
        x = self.table(indices) + self.position
        x = self.norm1(self.conv1(x.transpose(1, 2)))
        x = self.transposed(self.grouped(x)).transpose(1, 2)
        for layer in self.again:
            x = x + torch.relu(layer(x))
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(x + self.offset.sum())


INDICES = torch.randint(0, 12, (2, 6), generator=torch.Generator().manual_seed(0))
EVERYTHING = [
    "table", "conv1", "again.0", "attention.q_proj", "attention.k_proj", "attention.v_proj",
    "attention.out_proj", "grouped", "head",
]  # fmt: skip


@settings(max_examples=15)
@given(
    method=st.sampled_from(METHODS),
    widths=st.lists(st.integers(2, 8), min_size=9, max_size=9),
    kept=st.sets(st.sampled_from(EVERYTHING), max_size=6),
    symmetric=st.booleans(),
    granularity=st.sampled_from(["channel", "tensor", 4]),
    activation_bits=st.integers(2, 8),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.float64, torch.bfloat16]),
    seed=st.integers(0, 2**16),
)
def test_any_model_quantized_in_any_way_comes_back(
    tmp_path_factory, method, widths, kept, symmetric, granularity, activation_bits, dtype, seed
):
    torch.manual_seed(seed)
    model, report = quantize_model(
        Everything().to(dtype),
        method,
        bits=dict(zip(EVERYTHING, widths, strict=True)),
        exclude=kept,
        symmetric=symmetric,
        granularity=granularity,
        activation_bits=activation_bits,
        calibration_data=[INDICES],
    )
    path = saved(tmp_path_factory.mktemp("any"), model)
    loaded = load(path, on_meta(Everything))
    assert torch.equal(loaded(INDICES), model(INDICES))
    assert os.path.getsize(path) == report.quantized_bytes + header_bytes(path)
    ours, theirs = stored_tensors(loaded), stored_tensors(model)
    assert ours[1] == theirs[1] and ours[0].keys() == theirs[0].keys()
    assert all(torch.equal(ours[0][name], theirs[0][name]) for name in ours[0])
    again = saved(path.parent, loaded, "again")
    assert again.read_bytes() == path.read_bytes()


def test_weights_that_were_one_are_one_again(tmp_path):
    path = saved(tmp_path, quantize_model(Everything(), bits=4)[0])
    loaded = load(path, Everything())
    assert loaded.head.packed is loaded.table.packed
    assert loaded.again[0] is loaded.again[1]


def test_the_weights_of_the_model_given_do_not_matter_and_stay(tmp_path):
    model, _ = quantized_cnn()
    path = saved(tmp_path, model)
    given_model = MnistCNN().train()
    before = copy.deepcopy(given_model.state_dict())
    assert torch.equal(load(path, given_model)(X), model(X))
    assert given_model.training and type(given_model.conv1) is nn.Conv2d
    assert all(torch.equal(t, before[n]) for n, t in given_model.state_dict().items())


def test_a_model_that_is_one_layer(tmp_path):
    layer, x = nn.Linear(6, 4), torch.randn(3, 6)
    model, _ = quantize_model(layer, "static", bits=3, symmetric=False, calibration_data=[x])
    loaded = load(saved(tmp_path, model), nn.Linear(6, 4, device="meta"))
    assert torch.equal(loaded(x), model(x))


def test_layers_put_together_by_hand(tmp_path):
    layer = nn.Linear(6, 4)
    qparams = choose_qparams(layer.weight, 8, symmetric=True, signed=True)
    model = nn.Sequential(QuantLinear.from_float(layer, 8, qparams), nn.ReLU())
    path = saved(tmp_path, model)
    assert read_recipe(path)["method"] == "by hand"
    loaded = load(path, nn.Sequential(nn.Linear(6, 4), nn.ReLU()))
    assert torch.equal(loaded(torch.ones(1, 6)), model(torch.ones(1, 6)))


def test_a_model_quantized_in_two_steps(tmp_path):
    first, _ = quantized_cnn(exclude=["fc"])
    model, _ = quantize_model(first, bits=4)
    assert torch.equal(load(saved(tmp_path, model), on_meta(MnistCNN))(X), model(X))


# ---------------------------------------------------------------- what the file is


def test_the_same_model_gives_the_same_bytes(tmp_path):
    one = saved(tmp_path, quantized_cnn()[0], "one").read_bytes()
    assert one == saved(tmp_path, quantized_cnn()[0], "two").read_bytes()


def test_any_reader_of_safetensors_sees_the_codes_and_the_recipe(tmp_path):
    model, _ = quantized_cnn(bits=4)
    content = saved(tmp_path, model).read_bytes()
    assert torch.equal(tensors_from_bytes(content)["fc.packed"], model.fc.packed)
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    assert list(metadata) == ["quantization"]
    recipe = json.loads(metadata["quantization"])
    assert recipe["layers"]["conv4"]["bits"] == 4
    assert recipe["folded"] == ["bn1", "bn2", "bn3", "bn4"]
    assert recipe == {**read_recipe(tmp_path / "model.safetensors"), "sha256": recipe["sha256"]}


def test_no_float_weight_is_in_the_file(tmp_path):
    model, _ = quantized_cnn()
    tensors = tensors_from_bytes(saved(tmp_path, model).read_bytes())
    weights = {n for n, m in model.named_modules() if isinstance(m, QuantLayer)}
    assert weights == {"conv1", "depthwise", "pointwise", "conv4", "fc"}
    assert not [name for name in tensors if name.endswith("weight")]


def test_a_file_of_ours_is_replaced(tmp_path):
    saved(tmp_path, quantized_cnn(bits=8)[0])
    path = saved(tmp_path, quantized_cnn(bits=2)[0])
    assert read_recipe(path)["layers"]["fc"]["bits"] == 2
    assert os.listdir(tmp_path) == ["model.safetensors"]


@pytest.mark.parametrize("kind", ["text", "safetensors", "folder"])
def test_nothing_else_is_overwritten(tmp_path, kind):
    path = tmp_path / "precious"
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("my thesis")
    else:
        save_file({"w": torch.ones(2)}, path)
    before = None if kind == "folder" else path.read_bytes()
    with pytest.raises(ValueError, match="is not overwritten"):
        save(quantized_cnn()[0], path)
    assert path.is_dir() if before is None else path.read_bytes() == before


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = saved(tmp_path, quantized_cnn(bits=8)[0])
    before = path.read_bytes()

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        save(quantized_cnn(bits=2)[0], path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


def test_a_model_without_quantized_layers_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="MnistCNN has no quantized layers"):
        save(mnist_cnn(), tmp_path / "a")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda layer: layer.scale.fill_(float("nan")), "layer 'fc' .*scale must be positive"),
        (lambda layer: layer.scale.zero_(), "layer 'fc' .*scale must be positive"),
        (lambda layer: setattr(layer, "bits", 4), "layer 'fc' .*codes of 4 bits"),
        (lambda layer: layer.input_quantizer.scale.neg_(), "layer 'fc' .*scale must be positive"),
    ],
)
def test_a_layer_that_was_broken_by_hand_is_not_saved(tmp_path, change, says):
    model = quantized_cnn()[0]
    change(model.fc)
    with pytest.raises(ValueError, match=says):
        save(model, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        save(quantized_cnn()[0], tmp_path / "absent" / "a")


# ---------------------------------------------------------------- files that are refused


def test_a_missing_file():
    with pytest.raises(FileNotFoundError, match=r"no file at absent\.safetensors"):
        load("absent.safetensors", mnist_cnn())


def test_every_cut_is_noticed(tmp_path):
    path = saved(tmp_path, quantize_model(nn.Linear(16, 4), bits=4)[0])
    content = path.read_bytes()
    for length in [*range(0, len(content), 37), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="cut off or damaged"):
            load(path, nn.Linear(16, 4))
    path.write_bytes(content + b"\0")
    with pytest.raises(ValueError, match="cut off or damaged"):
        load(path, nn.Linear(16, 4))


@settings(max_examples=80)
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_every_changed_byte_is_noticed(tmp_path_factory, place, flip):
    path = saved(tmp_path_factory.mktemp("b"), quantize_model(nn.Linear(16, 4), bits=4)[0])
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= flip
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged|no recipe|version"):
        load(path, nn.Linear(16, 4))


def rewritten(path, change):
    """The same tensors with another recipe."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    recipe = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["quantization"])
    change(recipe)
    metadata = {"quantization": json.dumps(recipe)}
    path.write_bytes(bytes_from_tensors(tensors_from_bytes(content), metadata=metadata))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: r.update(version=2), "version 2 .* reads version 1"),
        (lambda r: r.update(version=None), "version None"),
        (lambda r: r.update(format="other"), "no recipe"),
        (lambda r: r.pop("format"), "no recipe"),
        (lambda r: r["layers"]["fc"].update(bits=3), "damaged: its checksum"),
        (lambda r: r.pop("sha256"), "damaged"),
    ],
)
def test_a_recipe_of_another_kind(tmp_path, change, says):
    path = saved(tmp_path, quantized_cnn()[0])
    rewritten(path, change)
    with pytest.raises(ValueError, match=says):
        load(path, mnist_cnn())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"PK\x03\x04" + bytes(100),
        bytes(8),
        (2).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (2**63).to_bytes(8, "little") + b"{}",
        bytes_from_tensors({"a": torch.ones(1)}),
        bytes_from_tensors({"a": torch.ones(1)}, metadata={"quantization": "[]"}),
        bytes_from_tensors({"a": torch.ones(1)}, metadata={"quantization": "{"}),
        bytes_from_tensors({"a": torch.ones(1)}, metadata={"quantization": '"text"'}),
    ],
)
def test_foreign_files(tmp_path, content):
    path = tmp_path / "foreign"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        load(path, mnist_cnn())


class Changed(MnistCNN):
    def __init__(self, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (mnist_mlp, "does not fit MnistMLP: the model has no layer 'bn1'"),
        (lambda: Changed(fc=nn.Identity()), "'fc' is a Identity, and QuantLinear was stored"),
        (lambda: quantized_cnn()[0], "has no layer|is quantized already; give the float model"),
        (lambda: Changed(fc=nn.Linear(576, 11)), r"'fc' has a weight of shape \[11, 576\]"),
        (
            lambda: Changed(conv4=nn.Conv2d(32, 64, 3, padding=1, stride=2)),
            "'conv4' has the settings .*stride",
        ),
        (lambda: Changed(extra=nn.LayerNorm(3)), "holds nothing for extra.bias, extra.weight"),
        (lambda: Changed(extra=nn.Linear(3, 3)), "holds nothing for extra"),
        (lambda: Changed(conv1=nn.MultiheadAttention(2, 1)), "'conv1' is a MultiheadAttention"),
    ],
)
def test_a_model_of_another_structure(tmp_path, build, says):
    path = saved(tmp_path, quantized_cnn()[0])
    with pytest.raises(ValueError, match=says):
        load(path, build())


def test_float_layers_of_another_shape(tmp_path):
    model, _ = quantize_model(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)))
    path = saved(tmp_path, model)
    with pytest.raises(ValueError, match=r"1\.bias has shape \(2, 4\), stored was \(4,\)"):
        load(path, nn.Sequential(nn.Linear(4, 4), nn.LayerNorm((2, 4))))
    with pytest.raises(ValueError, match=r"the model has no 1\.bias"):
        load(path, nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4, elementwise_affine=False)))


class WithTable(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.register_buffer("table", torch.ones(4), persistent=False)


def test_a_buffer_that_no_file_holds_must_come_with_the_model(tmp_path):
    path = saved(tmp_path, quantize_model(WithTable())[0])
    assert torch.equal(load(path, WithTable()).table, torch.ones(4))
    with pytest.raises(ValueError, match=r"table is no part of the state_dict.*CPU"):
        load(path, on_meta(WithTable))
