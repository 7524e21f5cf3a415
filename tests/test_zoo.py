"""The bundled models: they are what they say, they work, and foreign files are refused."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file
from torch import nn

from labkit import data, zoo
from labkit.data import DATA_FOLDER, load_mnist, read_manifest, verified
from labkit.evaluate import Accuracy, accuracy

BUILDERS = {"mnist_mlp": zoo.mnist_mlp, "mnist_cnn": zoo.mnist_cnn}
each_model = pytest.mark.parametrize("name", sorted(BUILDERS))


@pytest.fixture(scope="module")
def mnist():
    return load_mnist()


def test_the_mlp_is_the_documents():
    model = zoo.mnist_mlp()
    sizes = {name: tuple(value.shape) for name, value in model.named_parameters()}
    assert sizes == {
        "fc1.weight": (256, 784),
        "fc1.bias": (256,),
        "fc2.weight": (128, 256),
        "fc2.bias": (128,),
        "fc3.weight": (10, 128),
        "fc3.bias": (10,),
    }


def test_the_cnn_has_what_later_lessons_fold_and_equalize():
    modules = list(zoo.mnist_cnn().modules())
    assert sum(isinstance(module, nn.BatchNorm2d) for module in modules) == 4
    assert any(isinstance(m, nn.Conv2d) and m.groups == m.in_channels > 1 for m in modules)
    assert sum(p.numel() for p in zoo.mnist_cnn().parameters()) < 60_000


@each_model
def test_the_recorded_accuracy_is_measured_again(name, mnist):
    report = accuracy(BUILDERS[name](), mnist.test_images, mnist.test_labels)
    entry = read_manifest()[f"{name}.safetensors"]
    # Other processors may round differently and flip an image that lies on the edge.
    assert abs(report.correct - entry["test_correct"]) <= 3
    assert report.n == entry["test_images"]
    assert report.value >= {"mnist_mlp": 0.93, "mnist_cnn": 0.97}[name]
    card = (DATA_FOLDER / "README.md").read_text(encoding="utf-8")
    recorded = Accuracy.of(entry["test_correct"], entry["test_images"])
    assert str(recorded).removesuffix(" (measured)") in card


def test_the_mlp_agrees_with_plain_numpy(mnist):
    weights = load_file(verified("mnist_mlp.safetensors"))
    x = mnist.test_images.numpy().reshape(1000, 784).astype(np.float64)
    for layer in ("fc1", "fc2", "fc3"):
        x = x @ weights[f"{layer}.weight"].T.astype(np.float64) + weights[f"{layer}.bias"]
        x = np.maximum(x, 0) if layer != "fc3" else x
    with torch.no_grad():
        scores = zoo.mnist_mlp()(mnist.test_images).numpy()
    assert np.abs(scores - x).max() < 1e-3


@each_model
def test_models_come_in_eval_mode_and_apart(name):
    first, second = BUILDERS[name](), BUILDERS[name]()
    assert not any(module.training for module in first.modules())
    next(first.parameters()).data.zero_()
    assert next(second.parameters()).abs().max() > 0


@each_model
@pytest.mark.parametrize("trained", [True, False])
def test_the_global_random_state_is_left_alone(name, trained):
    torch.manual_seed(123)
    wanted = torch.rand(3)
    torch.manual_seed(123)
    BUILDERS[name](trained=trained)
    assert torch.equal(torch.rand(3), wanted)


@each_model
def test_untrained_models_are_seeded_and_know_nothing(name, mnist):
    first, second = BUILDERS[name](trained=False), BUILDERS[name](trained=False)
    for one, two in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, two)
    assert accuracy(first, mnist.test_images, mnist.test_labels).value < 0.4


def test_the_weights_are_a_trained_distribution_and_not_clipped():
    weight = zoo.mnist_mlp().fc1.weight.detach()
    assert torch.isfinite(weight).all()
    assert (weight.abs() == weight.abs().max()).sum() == 1
    assert weight.abs().max() > 4 * weight.std()
    start = zoo.mnist_mlp(trained=False).fc1.weight.detach()
    assert weight.abs().max() > 2 * start.abs().max()


def quantized_accuracy(mnist, bits, per_channel):
    """The plain formula, apart from labkit: symmetric, scale amax / (2^(b-1) - 1)."""
    model = zoo.mnist_mlp()
    for layer in (model.fc1, model.fc2, model.fc3):
        w = layer.weight.data
        scale = w.abs().amax(1, keepdim=True) if per_channel else w.abs().max()
        scale = scale / (2 ** (bits - 1) - 1)
        layer.weight.data = (w / scale).round().clamp(-(2 ** (bits - 1)), None) * scale
    return accuracy(model, mnist.test_images, mnist.test_labels)


def test_fewer_bits_take_the_mlp_from_success_to_failure(mnist):
    full = accuracy(zoo.mnist_mlp(), mnist.test_images, mnist.test_labels)
    for bits in (8, 4):
        assert quantized_accuracy(mnist, bits, per_channel=False).value >= full.low
    two_bits = quantized_accuracy(mnist, 2, per_channel=False)
    assert two_bits.value < 0.35
    assert two_bits.high < quantized_accuracy(mnist, 2, per_channel=True).low < full.low


@each_model
def test_an_altered_checkpoint_is_refused_with_its_remedy(name, tmp_path, monkeypatch):
    folder = tmp_path / "data"
    shutil.copytree(DATA_FOLDER, folder, ignore=shutil.ignore_patterns("cache"))
    monkeypatch.setattr(data, "DATA_FOLDER", folder)
    path = folder / f"{name}.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}\.safetensors is altered.*labkit\.train {name}"):
        BUILDERS[name]()
    path.write_bytes(content[:1000])
    with pytest.raises(ValueError, match=rf"{name}\.safetensors is truncated.*git checkout"):
        BUILDERS[name]()
    path.unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name}\.safetensors is missing"):
        BUILDERS[name]()
    assert BUILDERS[name](trained=False)


def test_a_foreign_checkpoint_is_refused_and_changes_nothing(tmp_path):
    model = zoo.mnist_mlp()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def refused(pattern):
        with pytest.raises(ValueError, match=pattern):
            zoo.load_checkpoint(model, tmp_path / "x.safetensors")
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())

    changed = {name: value + 1 for name, value in before.items()}
    save_file({**changed, "fc2.weight": torch.ones(3, 3)}, tmp_path / "x.safetensors")
    refused(r"does not fit MnistMLP: fc2\.weight has shape \(3, 3\) instead of \(128, 256\)")
    save_file({**changed, "fc9.weight": torch.ones(3)}, tmp_path / "x.safetensors")
    refused(r"it has besides fc9\.weight")
    changed.pop("fc1.bias")
    save_file(changed, tmp_path / "x.safetensors")
    refused(r"it lacks fc1\.bias")
    (tmp_path / "x.safetensors").write_bytes(b"not a checkpoint")
    refused("not a safetensors file")
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        zoo.load_checkpoint(model, tmp_path / "nowhere.safetensors")


@each_model
def test_checkpoints_say_how_they_were_made(name):
    facts = zoo.training_facts(verified(f"{name}.safetensors"))
    assert facts["command"] == read_manifest()[f"{name}.safetensors"]["remake"]
    assert facts["architecture"] == type(BUILDERS[name]()).__name__
    assert facts["data_sha256"] == read_manifest()["mnist_5k.npz"]["content_sha256"]
    assert {"seed", "epochs", "learning_rate", "batch_size", "torch"} <= facts.keys()
