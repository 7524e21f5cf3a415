"""Small models that the notebooks quantize, with weights really trained by ``labkit.train``.

Every layer that a quantizer may want to touch or watch is a named module used exactly once, in the
order of the computation. Checkpoints are safetensors under ``data/``: loading runs no code.
"""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as tensors_from_bytes
from torch import nn

from labkit.data import verified

INITIAL_SEED = 0


class MnistMLP(nn.Module):
    """The source document's network: 784-256-128-10, ReLU between; 235,146 parameters.

    Takes (n, 1, 28, 28) or (n, 784), flattens it, returns scores (n, 10).

    >>> MnistMLP()(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(self) -> None:
        """Make the layers with torch's ordinary random initialization."""
        super().__init__()
        self.fc1 = nn.Linear(784, 256)
        self.relu1 = nn.ReLU()
        self.fc2 = nn.Linear(256, 128)
        self.relu2 = nn.ReLU()
        self.fc3 = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (n, ...) with 784 values each → scores (n, 10)."""
        x = x.flatten(1)
        x = self.relu1(self.fc1(x))
        x = self.relu2(self.fc2(x))
        return self.fc3(x)


class MnistCNN(nn.Module):
    """A small convolutional network with batch norm; 25,258 parameters.

    conv1 → depthwise → pointwise → conv4 → fc, each convolution followed by batch norm and ReLU.
    The depthwise pair is the block of MobileNet: its channels differ widely in range, which is what
    folding batch norm and equalizing channels are about. Takes (n, 1, 28, 28), returns (n, 10).

    >>> MnistCNN().eval()(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(self) -> None:
        """Make the layers with torch's ordinary random initialization."""
        super().__init__()
        # No bias before a batch norm: its own shift takes that part.
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.relu2 = nn.ReLU()
        self.pointwise = nn.Conv2d(16, 32, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(32)
        self.relu3 = nn.ReLU()
        self.pool3 = nn.MaxPool2d(2)
        self.conv4 = nn.Conv2d(32, 64, 3, padding=1, bias=False)
        self.bn4 = nn.BatchNorm2d(64)
        self.relu4 = nn.ReLU()
        self.pool4 = nn.MaxPool2d(2)
        self.fc = nn.Linear(64 * 3 * 3, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (n, 1, 28, 28) → scores (n, 10)."""
        x = self.pool1(self.relu1(self.bn1(self.conv1(x))))
        x = self.relu2(self.bn2(self.depthwise(x)))
        x = self.pool3(self.relu3(self.bn3(self.pointwise(x))))
        x = self.pool4(self.relu4(self.bn4(self.conv4(x))))
        return self.fc(x.flatten(1))


def mnist_mlp(trained: bool = True) -> MnistMLP:
    """Return the 784-256-128-10 network in eval mode, trained on the bundled digits or untrained.

    Untrained weights are torch's initialization with seed 0, the same at every call. The global
    random state is left as it was. Raises as `labkit.data.verified` for a missing or altered file.

    >>> mnist_mlp().fc1.weight.shape
    torch.Size([256, 784])
    """
    return _ready(MnistMLP, "mnist_mlp.safetensors" if trained else None)


def mnist_cnn(trained: bool = True) -> MnistCNN:
    """Return the small CNN in eval mode; `trained`, randomness and errors as in `mnist_mlp`.

    >>> sum(p.numel() for p in mnist_cnn().parameters())
    25258
    """
    return _ready(MnistCNN, "mnist_cnn.safetensors" if trained else None)


def seeded(build: Callable[[], nn.Module], seed: int = INITIAL_SEED) -> nn.Module:
    """Build a model with a fixed seed; return it in eval mode, the global random state untouched.

    >>> first, second = seeded(MnistMLP), seeded(MnistMLP)
    >>> torch.equal(first.fc1.weight, second.fc1.weight)
    True
    """
    # The CPU generator alone: torch.manual_seed would also reseed every accelerator.
    state = torch.get_rng_state()
    try:
        torch.default_generator.manual_seed(seed)
        return build().eval()
    finally:
        torch.set_rng_state(state)


def load_checkpoint(model: nn.Module, path: Path | str) -> None:
    """Copy the weights stored at `path` (safetensors) into `model`.

    Every name and shape must agree; otherwise ValueError says which do not, and the model keeps its
    weights. Raises FileNotFoundError for a missing file, ValueError for one of another format.

    >>> load_checkpoint(MnistMLP(), verified("mnist_cnn.safetensors"))
    Traceback (most recent call last):
    ...
    ValueError: ...mnist_cnn.safetensors does not fit MnistMLP: it lacks fc1.bias, ...
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint at {path}.")
    try:
        # From bytes and not mapped: a mapped file cannot be replaced on Windows.
        stored = tensors_from_bytes(path.read_bytes())
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file, or is damaged: {error}") from error
    wanted = model.state_dict()
    problems = [
        _listed("it lacks", wanted.keys() - stored.keys()),
        _listed("it has besides", stored.keys() - wanted.keys()),
        *(
            f"{name} has shape {tuple(stored[name].shape)} instead of {tuple(wanted[name].shape)}"
            for name in wanted
            if name in stored and stored[name].shape != wanted[name].shape
        ),
    ]
    problems = [problem for problem in problems if problem]
    if problems:
        raise ValueError(f"{path} does not fit {type(model).__name__}: " + "; ".join(problems))
    model.load_state_dict(stored)


def training_facts(path: Path | str) -> dict:
    """Return what a checkpoint of ours says about its training: command, seed, epochs, data, …

    An empty dict when the file says nothing.

    >>> training_facts(verified("mnist_mlp.safetensors"))["command"]
    'python -m labkit.train mnist_mlp'
    """
    with safe_open(str(path), framework="pt") as stored:
        metadata = stored.metadata() or {}
    return json.loads(metadata.get("training", "{}"))


def _ready(build: Callable[[], nn.Module], checkpoint: str | None) -> nn.Module:
    """Build with a fixed seed, load the checkpoint if one is named, return in eval mode."""
    model = seeded(build)
    if checkpoint is not None:
        load_checkpoint(model, verified(checkpoint))
    return model


def _listed(what: str, names: set[str]) -> str:
    shown = sorted(names)
    more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
    return f"{what} {', '.join(shown[:3])}{more}" if shown else ""
