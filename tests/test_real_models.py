"""The optional networks are what they say: the recorded file, the published function."""

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from labkit import real_models
from labkit.data import DATA_FOLDER, DamagedFileError
from labkit.mobilenet import EFFICIENTNET_LITE0, MOBILENET_V2, MobileNet
from labkit.pictures import PARTS, natural_noise, photograph
from labkit.real_models import WEIGHTS, normalize, weight_file
from labkit.transform import equalize, fold_batch_norm

each_model = pytest.mark.parametrize("name", WEIGHTS)
MILITARY_UNIFORM = 652  # ImageNet's class of a person in uniform.


@pytest.fixture(scope="module")
def networks():
    return {name: getattr(real_models, name)() for name in WEIGHTS}


def waves(size=96):
    """A picture made of a formula: (1, 3, size, size), values in 0..1."""
    row, column = torch.arange(size)[:, None] / 7, torch.arange(size)[None, :] / 11
    colours = [torch.sin(row * (c + 1)) * torch.cos(column + c) for c in range(3)]
    return 0.5 + 0.5 * torch.stack(colours)[None]


# ---------------------------------------------------------------- the function


# Measured once with torch 2.13.0 on an x86-64 CPU: outputs 4 to 9 and root mean square of all.
FINGERPRINTS = {
    "mobilenet_v2": ([0.009, 0.935, 0.0, 0.994, 0.0, 0.177], 0.7410),
    "efficientnet_lite0": ([0.127, 0.569, -0.361, -0.441, -3.301, -4.274], 2.8942),
}


@each_model
def test_the_fingerprint_of_its_outputs(networks, name):
    with torch.no_grad():
        outputs = networks[name](normalize(waves(), name))[0]
    first, rms = FINGERPRINTS[name]
    assert torch.allclose(outputs[4:10], torch.tensor(first), atol=2e-3)
    assert outputs.square().mean().sqrt().item() == pytest.approx(rms, rel=1e-3)


def test_efficientnet_recognizes_the_uniform(networks):
    whole = normalize(photograph()[:1], "efficientnet_lite0")
    with torch.no_grad():
        scores = networks["efficientnet_lite0"](whole)
    assert scores.argmax().item() == MILITARY_UNIFORM


def test_mobilenets_features_know_a_mirrored_picture(networks):
    pictures = normalize(photograph(), "mobilenet_v2")
    with torch.no_grad():
        features = networks["mobilenet_v2"](pictures)
        mirrored = networks["mobilenet_v2"](pictures.flip(3))
    likeness = F.cosine_similarity(features[:, None], mirrored[None], dim=2)
    assert likeness.argmax(1).tolist() == list(range(len(PARTS)))


def norm_act(x, stored, name, eps, act=True):
    names = ("running_mean", "running_var", "weight", "bias")
    x = F.batch_norm(x, *(stored[f"{name}.{part}"] for part in names), eps=eps)
    return F.relu6(x) if act else x


def mobilenet_by_hand(x, stored):
    """MobileNetV2 from the stored tensors and their own names, without labkit's classes."""

    def layer(x, conv, norm, stride=1, act=True):
        weight = stored[f"{conv}.weight"]
        groups = x.shape[1] // weight.shape[1]
        x = F.conv2d(x, weight, None, stride, weight.shape[2] // 2, groups=groups)
        return norm_act(x, stored, norm, 1e-5, act)

    x = layer(x, "features.0.0", "features.0.1", 2)
    for index in range(1, 18):
        name, skip = f"features.{index}.conv", x
        stride = 2 if index in (2, 4, 7, 14) else 1
        at = 0
        if index > 1:
            x, at = layer(x, f"{name}.0", f"{name}.1"), 3
        x = layer(x, f"{name}.{at}", f"{name}.{at + 1}", stride)
        x = layer(x, f"{name}.{at + 3}", f"{name}.{at + 4}", act=False)
        x = x + skip if x.shape == skip.shape else x
    return layer(x, "features.18.0", "features.18.1").mean((2, 3))


def efficientnet_by_hand(x, stored):
    """EfficientNet-Lite0 likewise, with TensorFlow's SAME padding from its definition."""

    def layer(x, conv, norm, stride=1, act=True):
        weight = stored[f"{conv}.weight"]
        size, kernel = x.shape[2], weight.shape[2]
        pad = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        before, after = pad // 2, pad - pad // 2
        x = F.pad(x, (before, after, before, after))
        x = F.conv2d(x, weight, None, stride, groups=x.shape[1] // weight.shape[1])
        return norm_act(x, stored, norm, 1e-3, act)

    x = layer(x, "_conv_stem", "_bn0", 2)
    for index in range(16):
        name, skip = f"_blocks.{index}", x
        if index:
            x = layer(x, f"{name}._expand_conv", f"{name}._bn0")
        stride = 2 if index in (1, 3, 5, 11) else 1
        x = layer(x, f"{name}._depthwise_conv", f"{name}._bn1", stride)
        x = layer(x, f"{name}._project_conv", f"{name}._bn2", act=False)
        x = x + skip if x.shape == skip.shape else x
    x = layer(x, "_conv_head", "_bn1").mean((2, 3))
    return F.linear(x, stored["_fc.weight"], stored["_fc.bias"])


@each_model
@torch.no_grad()
def test_labkits_network_is_the_stored_one_layer_by_layer(networks, name):
    stored = torch.load(weight_file(name), weights_only=True)
    by_hand = {"mobilenet_v2": mobilenet_by_hand, "efficientnet_lite0": efficientnet_by_hand}
    x = normalize(waves(), name)
    assert torch.allclose(networks[name](x), by_hand[name](x, stored), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("stages", "classes", "parameters"),
    [(MOBILENET_V2, 1000, 3_504_872), (EFFICIENTNET_LITE0, 1000, 4_652_008)],
)
def test_the_published_number_of_parameters(stages, classes, parameters):
    network = MobileNet(stages, classes)
    assert sum(p.numel() for p in network.parameters()) == parameters


# ---------------------------------------------------------------- the files


@each_model
def test_reading_the_weights_imports_nothing_of_the_package(name):
    module = WEIGHTS[name].path.split("/")[0]
    script = (
        f"import sys; from labkit import real_models; real_models.{name}(); "
        f"sys.exit({module!r} in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


@each_model
def test_an_absent_package_is_one_sentence_with_the_command(name, monkeypatch):
    def absent(package):
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(real_models.metadata, "distribution", absent)
    assert not real_models.is_installed(name)
    with pytest.raises(FileNotFoundError, match=r"python lab\.py models") as caught:
        getattr(real_models, name)()
    message = str(caught.value)
    assert message.startswith(f"{WEIGHTS[name].title} is not installed") and "\n" not in message


def test_an_altered_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    altered = tmp_path / "weights.pt"
    shutil.copy(weight_file("mobilenet_v2"), altered)
    with open(altered, "r+b") as file:
        file.seek(1000)
        file.write(b"\x00\x01\x02")
    monkeypatch.setattr(real_models, "_find", lambda name: altered)
    with pytest.raises(DamagedFileError, match="sha256"):
        real_models.mobilenet_v2()


@each_model
def test_the_card_and_the_pins_name_the_same_file(name):
    entry = WEIGHTS[name]
    card = (DATA_FOLDER / "README.md").read_text(encoding="utf-8")
    assert entry.sha256 in card and f"{entry.package} {entry.version}" in card
    pins = (DATA_FOLDER.parent / "constraints.txt").read_text(encoding="utf-8")
    assert f"{entry.package}=={entry.version}" in pins.splitlines()
    assert Path(weight_file(name)).stat().st_size < 20e6


@pytest.mark.parametrize(
    ("pictures", "words"),
    [
        (torch.zeros(3, 4, 4), r"\(n, 3, h, w\)"),
        (torch.zeros(1, 1, 4, 4), r"\(n, 3, h, w\)"),
        (torch.full((1, 3, 4, 4), 200.0), "divide bytes by 255"),
    ],
)
def test_pictures_that_are_none_are_refused(pictures, words):
    with pytest.raises(ValueError, match=words):
        normalize(pictures, "mobilenet_v2")


# ---------------------------------------------------------------- quantized


def per_tensor(network, bits=8):
    """Round the weights of every convolution to one grid a tensor, by a formula of its own."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            weight = module.weight.data
            scale = weight.abs().max() / (2 ** (bits - 1) - 1)
            module.weight.data = (weight / scale).round() * scale
    return network


@torch.no_grad()
def test_equalization_brings_mobilenets_features_back(networks):
    network = networks["mobilenet_v2"]
    x = normalize(photograph(), "mobilenet_v2")
    wanted = network(x)

    def cosine(changed):
        return F.cosine_similarity(changed(x), wanted).mean().item()

    assert cosine(fold_batch_norm(network)) > 0.99999
    assert cosine(equalize(network)) > 0.99999
    assert cosine(per_tensor(fold_batch_norm(network))) < 0.45
    assert cosine(per_tensor(equalize(network))) >= 0.95


def test_natural_noise_has_the_spectrum_of_nature():
    noise = natural_noise(4, 128)
    assert noise.min() >= 0 and noise.max() <= 1
    power = torch.fft.fft2(noise - noise.mean((2, 3), keepdim=True)).abs().square()
    # Four times the frequency: a quarter of the amplitude, a sixteenth of the power.
    low, high = power[..., 0, 4:8].mean(), power[..., 0, 16:32].mean()
    assert 10 < (low / high).item() < 26
    assert torch.equal(noise, natural_noise(4, 128))
