"""labkit/vla/few_bits.py and the bundled robots: packed, small, and what they were trained as."""

import shutil

import pytest
import torch

from labkit import data
from labkit.data import DATA_FOLDER, read_manifest, verified
from labkit.files import read_recipe
from labkit.layers import QuantLayer
from labkit.vla import few_bits
from labkit.vla.policy import Policy
from labkit.vla.rollout import held_out, roll_out, success
from labkit.vla.zoo import QUANTIZED, SEEDS, robot, robot_quantized, vla_10m

EXAMPLE = torch.rand(3, 3, 64, 64), torch.randint(1, 19, (3, 10))


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    copy = tmp_path / "data"
    shutil.copytree(DATA_FOLDER, copy, ignore=shutil.ignore_patterns("cache"))
    monkeypatch.setattr(data, "DATA_FOLDER", copy)
    return copy


def test_the_command_replaces_the_packed_model_and_its_entry(folder):
    tiny = few_bits.Recipe(bits=2, epochs=1, steps_between_saves=2, batch_size=8)
    model, quality = few_bits.retrain("w2_qat", tiny, folder, episodes=6, progress=False)
    entry = read_manifest(folder)["robot_w2_qat.safetensors"]
    assert (entry["held_out_success"], entry["held_out_episodes"]) == (quality.correct, 6)
    assert entry["remake"] == "python -m labkit.vla.few_bits w2_qat"
    assert entry["training"]["bits"] == 2
    assert verified("robot_w2_qat.safetensors").parent == folder
    assert torch.equal(robot_quantized("w2_qat")(*EXAMPLE), model(*EXAMPLE))
    assert not list((folder / "cache").iterdir())


@pytest.mark.parametrize("name", QUANTIZED)
def test_every_weight_of_a_packed_robot_has_the_bits_of_its_name(name):
    model, bits = robot_quantized(name), int(name[1])
    layers = [module for module in model.modules() if isinstance(module, QuantLayer)]
    assert len(layers) > 20 and {layer.bits for layer in layers} == {bits}
    assert read_recipe(verified(f"robot_{name}.safetensors"))["method"] == "qat"


@pytest.mark.parametrize("name", QUANTIZED)
def test_a_packed_robot_does_what_its_entry_says(name):
    entry = read_manifest()[f"robot_{name}.safetensors"]
    quality = success(roll_out(robot_quantized(name), held_out(60)))
    measured = entry["held_out_success"] / entry["held_out_episodes"]
    assert quality.low <= measured <= quality.high
    # A first trial of this design reached 99.0 % at 3 bits and 94.3 % at 2.
    assert entry["held_out_episodes"] >= 3000
    assert measured > {"w3_qat": 0.99, "w2_qat": 0.943}[name]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_robot_does_what_its_entry_says(seed):
    entry = read_manifest()[f"robot_seed{seed}.safetensors"]
    assert entry["bytes"] < 3_000_000
    assert entry["held_out_success"] >= 0.98 * entry["held_out_episodes"] >= 0.98 * 3000
    quality = success(roll_out(robot(seed), held_out(60)))
    measured = entry["held_out_success"] / entry["held_out_episodes"]
    assert quality.low <= measured <= quality.high


def test_other_names_and_seeds_are_refused():
    with pytest.raises(ValueError, match="w3_qat, w2_qat; got 'w4_qat'"):
        robot_quantized("w4_qat")
    with pytest.raises(ValueError, match="seeds 0, 1, 2; got 3"):
        robot(3)


def test_the_large_policy_has_the_same_architecture_and_forty_megabytes():
    large = vla_10m()
    parts = [name for name, _ in large.named_children()]
    assert parts == [name for name, _ in Policy().named_children()]
    size = sum(4 * p.numel() for p in large.parameters())
    assert abs(size - 40e6) < 0.5e6
    assert large(*EXAMPLE).shape == (3, 5) and not large.training
