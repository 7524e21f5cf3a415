"""Train the bundled models again with the project's own command.

    python -m labkit.train mnist_mlp     # or mnist_cnn, or all

Seeded, on one CPU thread, in seconds. The same machine and library versions give the same file
again, byte for byte. Prints the accuracy on the test images with its interval, then replaces the
checkpoint under ``data/`` and its entry in the manifest.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save as tensors_to_bytes
from torch import nn
from torch.nn import functional

from labkit import zoo
from labkit.data import Mnist, load_mnist, read_manifest, record
from labkit.evaluate import Accuracy, accuracy


@dataclass(frozen=True)
class Recipe:
    """How a bundled model is trained: plain Adam, no augmentation, no regularization.

    >>> RECIPES["mnist_mlp"].epochs
    10
    """

    epochs: int = 10
    learning_rate: float = 1e-3
    batch_size: int = 64
    seed: int = 0


RECIPES = {"mnist_mlp": Recipe(), "mnist_cnn": Recipe()}


def train(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    epochs: int,
    learning_rate: float = 1e-3,
    batch_size: int = 64,
    seed: int = 0,
    after_epoch: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Train `model` in place with Adam and cross-entropy; return the mean loss of each epoch.

    images: (n, ...), labels: int64 (n,). `seed` alone decides the order of the images; the global
    random state is not used. `after_epoch(epoch, loss)` is called as training goes on (epochs count
    from 1). The model ends in eval mode. Raises ValueError for numbers of images and labels that
    differ or are zero, for epochs or batch_size below 1, for a learning rate that is not positive,
    and when the loss is no longer finite.

    >>> images, labels = torch.eye(4), torch.arange(4)
    >>> model = nn.Linear(4, 4)
    >>> losses = train(model, images, labels, epochs=20, learning_rate=0.1)
    >>> losses[-1] < losses[0]
    True
    """
    if len(images) == 0 or labels.shape != (len(images),):
        raise ValueError(
            f"got images of shape {tuple(images.shape)} and labels of shape "
            f"{tuple(labels.shape)}; needs at least one image and one label for each"
        )
    if epochs < 1 or batch_size < 1 or not learning_rate > 0:
        raise ValueError(
            f"got epochs={epochs}, batch_size={batch_size}, learning_rate={learning_rate}; "
            "needs at least 1, at least 1, and more than 0"
        )
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    losses = []
    model.train()
    for epoch in range(1, epochs + 1):
        total = 0.0
        for chosen in torch.randperm(len(images), generator=order).split(batch_size):
            loss = functional.cross_entropy(model(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(chosen)
        losses.append(total / len(images))
        if not math.isfinite(losses[-1]):
            raise ValueError(
                f"the loss became {losses[-1]} in epoch {epoch}; "
                f"try a learning rate below {learning_rate}"
            )
        if after_epoch is not None:
            after_epoch(epoch, losses[-1])
    model.eval()
    return losses


def retrain(
    name: str, mnist: Mnist, folder: Path | None = None, recipe: Recipe | None = None
) -> Accuracy:
    """Train the bundled model `name`, replace its checkpoint and manifest entry, return accuracy.

    `folder` is the data folder, by default the one beside the package; `recipe` by default the
    model's own. Raises ValueError for an unknown name.

    >>> retrain("resnet", load_mnist())
    Traceback (most recent call last):
    ...
    ValueError: there is no recipe for 'resnet'; there are: mnist_cnn, mnist_mlp
    """
    if name not in RECIPES:
        raise ValueError(
            f"there is no recipe for {name!r}; there are: {', '.join(sorted(RECIPES))}"
        )
    recipe = RECIPES[name] if recipe is None else recipe
    model = getattr(zoo, name)(trained=False)
    train(model, mnist.train_images, mnist.train_labels, **asdict(recipe))
    quality = accuracy(model, mnist.test_images, mnist.test_labels)
    command = f"python -m labkit.train {name}"
    facts = {
        "architecture": type(model).__name__,
        "command": command,
        "data_sha256": read_manifest()["mnist_5k.npz"]["content_sha256"],
        "torch": torch.__version__.split("+")[0],
        **asdict(recipe),
    }
    # One metadata entry: safetensors may write several in any order, and the sha256 would change.
    content = tensors_to_bytes(
        {key: value.contiguous() for key, value in model.state_dict().items()},
        metadata={"training": json.dumps(facts, sort_keys=True)},
    )
    record(
        f"{name}.safetensors",
        content,
        command,
        folder,
        test_correct=quality.correct,
        test_images=quality.n,
    )
    return quality


def main(arguments: list[str] | None = None) -> int:
    """Run the command of this module; returns the exit status.

    >>> main(["resnet"])
    Traceback (most recent call last):
    ...
    SystemExit: 2
    """
    parser = argparse.ArgumentParser(
        prog="python -m labkit.train", description="Train the bundled models again."
    )
    parser.add_argument("model", choices=[*sorted(RECIPES), "all"])
    chosen = parser.parse_args(arguments).model
    # Sums in one thread are always added in the same order.
    torch.set_num_threads(1)
    try:
        mnist = load_mnist()
        for name in sorted(RECIPES) if chosen == "all" else [chosen]:
            start = time.perf_counter()
            quality = retrain(name, mnist)
            seconds = time.perf_counter() - start
            print(f"{name}: test accuracy {quality}, trained in {seconds:.1f} s")
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
