"""Keeping away what a library prints from C, past Python's sys.stdout."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# File descriptor 1 belongs to the whole process: one at a time may turn it away.
_LOCK = threading.Lock()


@contextmanager
def silence() -> Iterator[None]:
    """Send what is printed to file descriptor 1 nowhere, until the block ends.

    Where C's buffer cannot be emptied or there is no descriptor 1, nothing is changed.

    >>> with silence():
    ...     written = os.write(1, b"not seen")
    """
    flush = c_flush()
    with _LOCK:
        try:
            kept = os.dup(1) if flush else None
        except OSError:
            kept = None
        if kept is None:
            yield
            return
        if sys.stdout is not None:
            sys.stdout.flush()
        flush(None)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        try:
            yield
        finally:
            flush(None)
            os.dup2(kept, 1)
            os.close(kept)
            os.close(nowhere)


def c_flush() -> Callable[[None], int] | None:
    """Return C's fflush, which writes out what C has printed so far; None where it is not found.

    >>> flush = c_flush()
    """
    try:
        return ctypes.CDLL("ucrtbase" if os.name == "nt" else None).fflush
    except (OSError, AttributeError):
        return None
