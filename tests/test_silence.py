"""What C prints is kept away, and only while it is asked to be."""

import ctypes
import os
import threading

from labkit.silence import c_flush, silence


def c_prints(words):
    ctypes.CDLL("ucrtbase" if os.name == "nt" else None).puts(words)


def test_what_c_prints_inside_is_not_seen_and_what_it_prints_outside_is(capfd):
    c_prints(b"before")
    with silence():
        c_prints(b"inside")
    c_prints(b"after")
    c_flush()(None)
    out = capfd.readouterr().out
    assert out.split() == ["before", "after"]


def test_descriptors_are_restored_after_an_error_and_from_two_threads(capfd):
    def work():
        for _ in range(50):
            with silence():
                os.write(1, b"inside")

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        with silence():
            raise KeyError("on purpose")
    except KeyError:
        os.write(1, b"still here")
    assert capfd.readouterr().out == "still here"
