"""Torch's threads are as many as before, whatever happened inside the block."""

import pytest
import torch

from labkit.threads import one_thread


def test_the_number_of_threads_comes_back_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), one_thread():
        assert torch.get_num_threads() == 1
        1 / 0  # noqa: B018 - it shall raise
    assert torch.get_num_threads() == before


def test_it_decorates_a_function_that_is_called_again():
    before = torch.get_num_threads()
    threads = one_thread()(torch.get_num_threads)
    assert (threads(), threads()) == (1, 1)
    assert torch.get_num_threads() == before
