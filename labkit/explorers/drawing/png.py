"""Small arrays as PNG bytes, in pure Python: for images inside a picture."""

from __future__ import annotations

import base64
import io
import struct
import zlib

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
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
        SIGNATURE
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(raw.tobytes(), 6))
        + _chunk(b"IEND", b"")
    )


def encode_palette(pixels: np.ndarray) -> bytes:
    """Small PNG bytes of a uint8 array (rows, columns, 4), with at most 256 colours.

    The most frequent colours stay exact, the others move to the nearest of those; that keeps paper
    white and lines in their colours. Raises ``ValueError`` for another shape or dtype.

    >>> len(encode_palette(np.zeros((64, 64, 4), np.uint8))) < 200
    True
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 4 or pixels.size == 0:
        raise ValueError(
            f"got {pixels.dtype} of shape {pixels.shape}; give uint8 (rows, columns, 4)"
        )
    rows, columns = pixels.shape[:2]
    flat = np.ascontiguousarray(pixels).view(np.uint32).ravel()
    colours, place, counts = np.unique(flat, return_inverse=True, return_counts=True)
    kept = colours[np.argsort(-counts, kind="stable")[:256]]
    table = kept.view(np.uint8).reshape(-1, 4)
    every = colours.view(np.uint8).reshape(-1, 4).astype(np.int32)
    nearest = np.empty(len(colours), np.uint8)
    for start in range(0, len(colours), 4096):
        gap = every[start : start + 4096, None] - table[None].astype(np.int32)
        nearest[start : start + 4096] = (gap * gap).sum(axis=-1).argmin(axis=1)
    indices = nearest[place].reshape(rows, columns)
    header = struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)
    raw = np.concatenate([np.zeros((rows, 1), np.uint8), indices], axis=1)
    return (
        SIGNATURE
        + _chunk(b"IHDR", header)
        + _chunk(b"PLTE", table[:, :3].tobytes())
        + _chunk(b"tRNS", table[:, 3].tobytes())
        + _chunk(b"IDAT", zlib.compress(raw.tobytes(), 9))
        + _chunk(b"IEND", b"")
    )


def decode(data: bytes) -> np.ndarray:
    """Pixels of PNG bytes as uint8 (rows, columns, 4).

    >>> decode(encode(np.full((2, 3), 7, np.uint8)))[0, 0].tolist()
    [7, 7, 7, 255]
    """
    # Imported here: only authors decode, and matplotlib takes 0.3 s to import.
    from matplotlib.image import imread

    pixels = np.atleast_3d(np.round(imread(io.BytesIO(data)) * 255).astype(np.uint8))
    pixels = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
    opaque = np.full((*pixels.shape[:2], 1), 255, np.uint8)
    return pixels if pixels.shape[2] == 4 else np.concatenate([pixels, opaque], axis=2)


def data_uri(pixels: np.ndarray | bytes) -> str:
    """The PNG (of pixels, or PNG bytes as they are) as text that an image element can hold.

    >>> data_uri(np.zeros((1, 1), np.uint8)).startswith("data:image/png;base64,")
    True
    """
    data = pixels if isinstance(pixels, bytes) else encode(pixels)
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
