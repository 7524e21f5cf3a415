"""Small arrays as PNG bytes, in pure Python: for images inside a picture."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPE = {1: 0, 3: 2, 4: 6}


def encode(pixels: np.ndarray) -> bytes:
    """PNG bytes of a uint8 array: (rows, columns), or with a last dimension of 3 or 4.

    Raises ``ValueError`` for any other shape or dtype.

    >>> encode(np.zeros((2, 2), np.uint8))[:4]
    b'\\x89PNG'
    """
    pixels = np.ascontiguousarray(pixels)
    channels = 1 if pixels.ndim == 2 else pixels.shape[-1] if pixels.ndim == 3 else 0
    if pixels.dtype != np.uint8 or channels not in _COLOUR_TYPE or pixels.size == 0:
        raise ValueError(f"got {pixels.dtype} of shape {pixels.shape}; give uint8 (rows, columns)")
    rows, columns = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", columns, rows, 8, _COLOUR_TYPE[channels], 0, 0, 0)
    # Filter type 0 (none) stands before each row.
    raw = np.concatenate([np.zeros((rows, 1), np.uint8), pixels.reshape(rows, -1)], axis=1)
    return (
        _SIGNATURE
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(raw.tobytes(), 6))
        + _chunk(b"IEND", b"")
    )


def data_uri(pixels: np.ndarray) -> str:
    """The PNG as text that an image element can hold.

    >>> data_uri(np.zeros((1, 1), np.uint8)).startswith("data:image/png;base64,")
    True
    """
    return "data:image/png;base64," + base64.b64encode(encode(pixels)).decode("ascii")


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
