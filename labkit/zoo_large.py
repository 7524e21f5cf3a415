"""Models of ten million parameters: the source document's 40 MB, as an MLP and as a transformer.

The MLP's 40 MB are no part of the project: it is trained on the bundled digits when it is first
asked for (`python -m labkit.zoo_large` does so ahead) and kept under ``data/cache/``.
"""

import json
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save as tensors_to_bytes
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from labkit import data
from labkit.data import MANIFEST, DamagedFileError, load_mnist, read_manifest, record, verified
from labkit.train import Recipe, train
from labkit.zoo import load_checkpoint, seeded, training_facts

COMMAND = "python -m labkit.zoo_large"
RECIPE = Recipe(epochs=3, learning_rate=1e-3, batch_size=200)
FILE = "ten_million.safetensors"


class TenMillionMLP(nn.Module):
    """The document's model of ten million parameters: 784-2560-1792-1888-10, ReLU between.

    10,002,986 parameters, 40.01 MB in float32. The first and the last layer together hold 20 % of
    them, the share that the document's Example 2 keeps at 8 bits. Takes (n, 1, 28, 28) or (n, 784),
    flattens it, returns scores (n, 10).

    >>> with torch.device("meta"):
    ...     sum(p.numel() for p in TenMillionMLP().parameters())
    10002986
    """

    def __init__(self) -> None:
        """Make the layers with torch's ordinary random initialization."""
        super().__init__()
        self.fc1 = nn.Linear(784, 2560)
        self.relu1 = nn.ReLU()
        self.fc2 = nn.Linear(2560, 1792)
        self.relu2 = nn.ReLU()
        self.fc3 = nn.Linear(1792, 1888)
        self.relu3 = nn.ReLU()
        self.fc4 = nn.Linear(1888, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (n, ...) with 784 values each → scores (n, 10)."""
        x = x.flatten(1)
        x = self.relu1(self.fc1(x))
        x = self.relu2(self.fc2(x))
        x = self.relu3(self.fc3(x))
        return self.fc4(x)


class TransformerBlock(nn.Module):
    """One layer of a transformer encoder, normalized before each part: (n, tokens, width) → same.

    Queries, keys, values and the output projection are plain Linear layers. Source: Vaswani et al.
    2017; the place of the norms as in Xiong et al. 2020.

    >>> TransformerBlock(width=8, heads=2)(torch.zeros(1, 3, 8)).shape
    torch.Size([1, 3, 8])
    """

    def __init__(self, width: int, heads: int) -> None:
        """`heads` must divide `width`."""
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"heads must divide the width, got {heads} heads and width {width}")
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.gelu = nn.GELU()
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attention, then the MLP, each added to what came in."""
        normed = self.norm1(x)
        parts = (self.query(normed), self.key(normed), self.value(normed))
        # (n, tokens, width) → (n, heads, tokens, width of a head)
        parts = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        attended = functional.scaled_dot_product_attention(*parts)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.down(self.gelu(self.up(self.norm2(x))))


class TokenTransformer(nn.Module):
    """A transformer encoder of ten million parameters: 3 layers, 8 heads, width 512, 64 tokens.

    Takes token numbers (n, 64) in 0..999, returns features (n, 64, 512).

    >>> with torch.device("meta"):
    ...     sum(p.numel() for p in TokenTransformer().parameters())
    10002944
    """

    vocabulary, tokens, width, heads, depth = 1000, 64, 512, 8, 3

    def __init__(self) -> None:
        """Make the layers with torch's ordinary random initialization."""
        super().__init__()
        self.embedding = nn.Embedding(self.vocabulary, self.width)
        self.position = nn.Parameter(0.02 * torch.randn(self.tokens, self.width))
        blocks = (TransformerBlock(self.width, self.heads) for _ in range(self.depth))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(self.width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Token numbers (n, 64) → features (n, 64, 512)."""
        return self.norm(self.blocks(self.embedding(tokens) + self.position))


def transformer_10m() -> TokenTransformer:
    """Return the transformer of ten million parameters in eval mode: *untrained*, seeded.

    For sizes and times, which do not depend on what the weights have learned. What quantization
    does to its features is no statement about a trained transformer.

    >>> transformer_10m()(torch.arange(64).unsqueeze(0)).shape
    torch.Size([1, 64, 512])
    """
    return seeded(TokenTransformer)


def ten_million(
    trained: bool = True, *, progress: bool = True, folder: Path | None = None
) -> TenMillionMLP:
    """Return the document's model of ten million parameters in eval mode.

    Trained (about 93 % of the bundled test digits) or with torch's initialization of seed 0. The
    first call trains it, about 15 s on one core, with a bar where `progress`, and keeps it in
    `folder`, by default ``data/cache``; later calls read it there after checking its sha256. A file
    that is missing, damaged or from another recipe is trained again; where the folder cannot be
    written, a warning says so. Another processor or version of torch trains slightly other weights.
    Raises as `labkit.data.load_mnist`.

    >>> ten_million(trained=False).fc4.weight.shape
    torch.Size([10, 1888])
    """
    model = seeded(TenMillionMLP)
    if not trained:
        return model
    folder = data.DATA_FOLDER / "cache" if folder is None else Path(folder)
    facts = {
        "architecture": TenMillionMLP.__name__,
        "command": COMMAND,
        "data_sha256": read_manifest()["mnist_5k.npz"]["content_sha256"],
        **asdict(RECIPE),
    }
    try:
        path = verified(FILE, folder)
        if training_facts(path) == facts:
            load_checkpoint(model, path)
            return model
    except (ValueError, OSError):
        # Not there, not whole, or not ours: the same as no file at all.
        pass
    _train(model, progress)
    content = tensors_to_bytes(
        model.state_dict(), metadata={"training": json.dumps(facts, sort_keys=True)}
    )
    try:
        _keep(content, folder)
    except OSError as error:
        warnings.warn(
            f"the trained model could not be kept in {folder} ({error}); the next call trains it "
            "again, unless it is given a folder= that can be written",
            stacklevel=2,
        )
    return model


def _train(model: nn.Module, progress: bool) -> None:
    mnist = load_mnist()
    steps = RECIPE.epochs * -(-len(mnist.train_images) // RECIPE.batch_size)
    with tqdm(
        total=steps, desc="training ten_million, once", leave=False, disable=not progress
    ) as bar:
        handle = model.register_forward_hook(_advance(bar))
        try:
            train(model, mnist.train_images, mnist.train_labels, **asdict(RECIPE))
        finally:
            handle.remove()


def _advance(bar: tqdm) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        bar.update()

    return hook


def _keep(content: bytes, folder: Path) -> None:
    """Put the file and its sha256 into the cache, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        record(FILE, content, COMMAND, folder)
    except DamagedFileError:
        # The cache's own list of checksums is damaged. It only speaks of files made again anyway.
        (folder / MANIFEST).unlink()
        record(FILE, content, COMMAND, folder)


if __name__ == "__main__":
    ten_million()
