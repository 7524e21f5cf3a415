"""The models of ten million parameters: their size, what they compute, and the cache's honesty."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional

from labkit import zoo_large
from labkit.data import load_mnist, verified
from labkit.evaluate import accuracy
from labkit.train import Recipe
from labkit.zoo import training_facts
from labkit.zoo_large import FILE, TransformerBlock, ten_million, transformer_10m


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """A recipe of one short epoch, and a cache of its own."""
    few = load_mnist()
    few = few._replace(train_images=few.train_images[:100], train_labels=few.train_labels[:100])
    monkeypatch.setattr(zoo_large, "load_mnist", lambda: few)
    monkeypatch.setattr(zoo_large, "RECIPE", Recipe(epochs=1, batch_size=100))
    return tmp_path / "cache"


def cached(folder):
    return ten_million(progress=False, folder=folder)


def same(first, second):
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(one, two) for one, two in pairs)


def never(*arguments):
    raise AssertionError("this must not train")


def test_the_mlp_has_the_documents_forty_megabytes():
    model = ten_million(trained=False)
    names = [name for name, m in model.named_modules() if isinstance(m, nn.Linear)]
    assert names == ["fc1", "fc2", "fc3", "fc4"]
    sizes = [784, 2560, 1792, 1888, 10]
    by_hand = sum(a * b + b for a, b in itertools.pairwise(sizes))
    assert sum(p.numel() for p in model.parameters()) == by_hand == 10_002_986
    assert not model.training


def test_it_computes_relu_between_its_layers():
    model, x = ten_million(trained=False), torch.rand(3, 1, 28, 28)
    y = x.reshape(3, 784)
    for name in ("fc1", "fc2", "fc3"):
        layer = getattr(model, name)
        y = (y @ layer.weight.T + layer.bias).clamp(min=0)
    y = y @ model.fc4.weight.T + model.fc4.bias
    assert torch.allclose(model(x), y, atol=1e-5)


def test_untrained_is_seeded_and_leaves_the_random_state_alone():
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    first = ten_million(trained=False)
    assert torch.equal(torch.rand(2), wanted)
    assert same(first, ten_million(trained=False))


def test_it_is_trained_once_and_read_afterwards(quick, monkeypatch):
    first = cached(quick)
    assert not same(first, ten_million(trained=False))
    monkeypatch.setattr(zoo_large, "_train", never)
    assert same(first, cached(quick))
    facts = training_facts(verified(FILE, quick))
    assert facts["command"] == zoo_large.COMMAND and facts["epochs"] == 1


@pytest.mark.parametrize("damage", ["a bit", "cut off", "gone", "no list", "a torn list"])
def test_a_damaged_cache_is_trained_again(quick, damage):
    first = cached(quick)
    file, listed = quick / FILE, quick / "manifest.json"
    content = file.read_bytes()
    if damage == "a bit":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "cut off":
        file.write_bytes(content[:1000])
    elif damage == "gone":
        file.unlink()
    elif damage == "no list":
        listed.unlink()
    else:
        listed.write_text(listed.read_text()[:20])
    assert same(first, cached(quick))
    assert verified(FILE, quick).read_bytes() == content


def test_another_recipe_is_trained_anew(quick, monkeypatch):
    first = cached(quick)
    monkeypatch.setattr(zoo_large, "RECIPE", Recipe(epochs=1, batch_size=50))
    assert not same(first, cached(quick))
    assert training_facts(quick / FILE)["batch_size"] == 50


def test_a_folder_that_cannot_be_written_costs_only_a_warning(quick):
    quick.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="could not be kept in .* folder="):
        assert cached(quick).fc1.weight.shape == (2560, 784)


def test_the_real_recipe_reads_digits():
    mnist = load_mnist()
    assert accuracy(ten_million(progress=False), mnist.test_images, mnist.test_labels).value > 0.9


def test_the_transformer_has_ten_million_parameters_in_plain_layers():
    model = transformer_10m()
    assert abs(sum(p.numel() for p in model.parameters()) - 10_000_000) < 100_000
    linear = [name for name, m in model.named_modules() if isinstance(m, nn.Linear)]
    assert len(linear) == 3 * 6 and "blocks.0.query" in linear
    assert not model.training and same(model, transformer_10m())


def test_a_block_agrees_with_torchs_encoder_layer():
    torch.manual_seed(0)
    block = TransformerBlock(16, 4).eval()
    theirs = nn.TransformerEncoderLayer(
        16, 4, 64, dropout=0.0, activation=functional.gelu, batch_first=True, norm_first=True
    ).eval()
    attention = theirs.self_attn
    parts = [block.query, block.key, block.value]
    attention.in_proj_weight.data = torch.cat([part.weight.data for part in parts])
    attention.in_proj_bias.data = torch.cat([part.bias.data for part in parts])
    for ours, other in (
        (block.out, attention.out_proj),
        (block.up, theirs.linear1),
        (block.down, theirs.linear2),
        (block.norm1, theirs.norm1),
        (block.norm2, theirs.norm2),
    ):
        other.load_state_dict(ours.state_dict())
    x = torch.randn(2, 5, 16)
    with torch.no_grad():
        assert torch.allclose(block(x), theirs(x), atol=1e-5)


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="heads must divide the width, got 3 heads and width 16"):
        TransformerBlock(16, 3)
