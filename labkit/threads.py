"""One thread for small pieces of work: faster on a busy machine, and everywhere the same sums."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute in one thread inside the block, and in as many as before after it.

    Threads that share a small multiplication wait for each other longer than they help, many times
    longer when other programs want the processor; and how a sum is split decides its last digit.
    Also a decorator: ``@one_thread()``.

    >>> with one_thread():
    ...     torch.get_num_threads()
    1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
