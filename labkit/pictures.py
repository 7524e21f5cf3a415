"""Pictures to look at networks with: parts of one real photograph, and noise like nature's.

For networks whose training pictures the lab does not have. They show whether features survive
quantization; they are no test set.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Squares of the 512 × 600 photograph (left, top, side): the whole, the face, flag, cap, coat, …
PARTS = (
    (0, 44, 512),
    (100, 20, 300),
    (0, 300, 300),
    (200, 300, 300),
    (150, 50, 220),
    (0, 0, 224),
    (288, 0, 224),
    (120, 376, 224),
)


def photograph(size: int = 224) -> Tensor:
    """Return eight square parts of one photograph: (8, 3, size, size), values in 0..1.

    Rear Admiral Grace Hopper, by James S. Davis, U.S. Navy (public domain); it comes with
    matplotlib. Raises FileNotFoundError where matplotlib was installed without its sample data.

    >>> photograph(32).shape
    torch.Size([8, 3, 32, 32])
    """
    import matplotlib
    from PIL import Image

    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: this matplotlib came without its sample data; install it with "
            "`pip install --force-reinstall matplotlib`."
        )
    with Image.open(path) as stored:
        pixels = torch.from_numpy(np.array(stored.convert("RGB"))).permute(2, 0, 1) / 255
    parts = [pixels[None, :, top : top + side, left : left + side] for left, top, side in PARTS]
    resized = [F.interpolate(p, (size, size), mode="bilinear", antialias=True) for p in parts]
    return torch.cat(resized).clamp(0, 1)


def natural_noise(n: int, size: int = 224, seed: int = 0) -> Tensor:
    """Return noise with the spectrum of natural scenes: (n, 3, size, size), values in 0..1.

    Amplitudes fall as 1 / frequency, phases are random, the colours hang together (Field, J. Opt.
    Soc. Am. A 4 (1987) 2379). Mean near 0.45, standard deviation near 0.22, like photographs.

    >>> natural_noise(2, 16).shape
    torch.Size([2, 3, 16, 16])
    """
    generator = torch.Generator().manual_seed(seed)
    frequency = torch.fft.fftfreq(size)
    radius = torch.hypot(frequency[:, None], frequency[None, :])
    radius[0, 0] = 1 / size
    grey = torch.randn(n, 1, size, size, generator=generator)
    white = grey + 0.35 * torch.randn(n, 3, size, size, generator=generator)
    noise = torch.fft.ifft2(torch.fft.fft2(white) / radius).real
    noise = noise - noise.mean((1, 2, 3), keepdim=True)
    noise = noise / noise.std((1, 2, 3), keepdim=True)
    return (0.45 + 0.22 * noise).clamp(0, 1)
