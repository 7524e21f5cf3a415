"""Recipes that a checksum vouches for and labkit never wrote: refused by name, never half built."""

import copy
import json

import pytest
import torch
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as bytes_from_tensors
from torch import nn

from labkit import files
from labkit.quantize import quantize_model
from labkit.recipe_check import check_recipe


class Net(nn.Module):
    """A layer of every kind that a recipe knows, and a batch norm that is folded."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(5, 4)
        self.conv, self.norm = nn.Conv1d(4, 4, 3, padding=1), nn.BatchNorm1d(4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        y = self.norm(self.conv(self.table(x).mT)).mT
        return self.attention(y, y, y)[0]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    torch.manual_seed(0)
    quantized, _ = quantize_model(
        Net().eval(), "static", bits=3, calibration_data=[torch.tensor([[0, 1, 2], [3, 4, 0]])]
    )
    path = tmp_path_factory.mktemp("recipe") / "net.safetensors"
    files.save(quantized, path)
    return path


def places(value, place=()):
    """Every place in nested dicts and lists."""
    yield place
    named = isinstance(value, dict)
    for key, part in value.items() if named else enumerate(value if type(value) is list else ()):
        yield from places(part, (*place, key))


def replaced(value, place, new):
    value = copy.deepcopy(value)
    part = value
    for key in place[:-1]:
        part = part[key]
    if new is Ellipsis:
        del part[place[-1]]
    else:
        part[place[-1]] = new
    return value


STRANGE = [..., None, 0, -1, 10**30, 1.5, True, "x", [], {}, [1], {"a": 1}]


@pytest.mark.parametrize("new", STRANGE, ids=str)
def test_every_field_replaced_by_something_strange_is_refused_or_harmless(path, tmp_path, new):
    """With a checksum made for it: a ValueError, or a model that loads; never another error."""
    recipe, tensors = files._read(path)
    refused = 0
    for place in places(recipe):
        if not place or place[0] in ("format", "version"):
            continue
        changed = replaced(recipe, place, new)
        changed["sha256"] = files.checksum(changed, tensors)
        metadata = {"quantization": json.dumps(changed)}
        strange = tmp_path / "strange.safetensors"
        strange.write_bytes(bytes_from_tensors(tensors, metadata=metadata))
        try:
            files.load(strange, Net())
        except ValueError as error:
            refused += str(error).startswith(str(strange))
    assert refused > 50


@pytest.mark.parametrize(
    ("place", "new", "says"),
    [
        (("attention",), ..., "the recipe has no readable 'attention'; got 'nothing'"),
        (("folded", 0), 5, r"the recipe has no readable 'folded'; got \[5\]"),
        (("layers", "conv"), 5, "layer 'conv' holds int where fields should be"),
        (("layers", "conv", "bits"), True, "layer 'conv' has no readable 'bits'; got True"),
        (("layers", "conv", "dtype"), "load", "layer 'conv' has no readable 'dtype'; got 'load'"),
        (("layers", "conv", "shape", 0), 4.0, r"'conv' has no readable 'shape'; got \[4.0, 4, 3\]"),
        (
            ("layers", "conv", "input", "code_range"),
            [],
            "the input of layer 'conv' has no readable 'code_range'",
        ),
        (("layers", "conv", "input", "mode"), "dynamic", "no readable 'code_range'"),
        (("ties",), {"a": "b"}, "a is tied to 'b'"),
    ],
)
def test_the_field_is_named(path, place, new, says):
    recipe, tensors = files._read(path)
    with pytest.raises(ValueError, match=says):
        check_recipe(replaced(recipe, place, new), tensors)


def test_labkits_own_recipes_pass(path):
    check_recipe(*files._read(path))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000])
def test_nesting_without_end_is_refused(tmp_path, text):
    path = tmp_path / "deep.safetensors"
    path.write_bytes(bytes_from_tensors({"a": torch.ones(1)}, metadata={"quantization": text}))
    with pytest.raises(ValueError, match="not one that labkit's save wrote"):
        files.load(path, Net())


def test_every_byte_and_every_length_of_a_small_file(tmp_path):
    """Not a sample: all of them."""
    path = tmp_path / "small.safetensors"
    files.save(quantize_model(nn.Linear(4, 2), bits=3)[0], path)
    content = path.read_bytes()
    damaged = [content[:length] for length in range(len(content))]
    for place in range(len(content)):
        for flip in (0x01, 0x20, 0x80):
            changed = bytearray(content)
            changed[place] ^= flip
            damaged.append(bytes(changed))
    for given in damaged:
        path.write_bytes(given)
        with pytest.raises(ValueError, match=r"small\.safetensors (is|has)"):
            files.load(path, nn.Linear(4, 2))
    path.write_bytes(content)
    assert tensors_from_bytes(content) and files.load(path, nn.Linear(4, 2)).bits == 3
