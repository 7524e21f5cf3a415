"""The limits of a device, with units or not at all."""

import pytest

from labkit.constraints import Constraints, encode_constraints
from labkit.requirement import NotUnderstood, UnitMissing


@pytest.mark.parametrize(
    ("given", "memory", "compute", "latency"),
    [
        ({"memory_limit": "100 MB", "compute_limit": "50 %"}, 100_000_000, 0.5, None),
        ({"memory": "6 MB", "latency": "200 ms"}, 6_000_000, None, 0.2),
        ({"memory_bytes": 6e6, "compute_share": 0.5, "latency_seconds": 0.2}, 6_000_000, 0.5, 0.2),
        ({"memory_mb": 6, "latency_ms": 200}, 6_000_000, None, 0.2),
        ({"compute": "100 %"}, None, 1.0, None),
        ({"compute": "half"}, None, 0.5, None),
        ("内存100MB，计算能力50%", 100_000_000, 0.5, None),
        ("memory 512 KiB, at most 200 ms", 524_288, None, 0.2),
        ({"内存": "6MB"}, 6_000_000, None, None),
        ({}, None, None, None),
        (None, None, None, None),
    ],
)
def test_limits_are_read_with_their_units(given, memory, compute, latency):
    found = encode_constraints(given)
    assert (found.memory_bytes, found.compute_share, found.latency_seconds) == (
        memory,
        compute,
        latency,
    )


@pytest.mark.parametrize("given", [{"memory_limit": 100}, {"compute_limit": 50}, "memory 100"])
def test_a_number_without_a_unit_is_asked_back(given):
    with pytest.raises(UnitMissing, match=r"100|50"):
        encode_constraints(given)


@pytest.mark.parametrize(
    ("given", "quoted"),
    [
        ("at most 3 points worse", "3 points"),
        ({"bits": "8 bits"}, "8 bits"),
        ({"memory": "-6 MB"}, "-6 MB"),
        ({"memory": "at least 6 MB"}, "at least 6 MB"),
        ({"compute": "0 %"}, "0 %"),
        ({"compute": "120 %"}, "120 %"),
        ({"compute_share": 1.5}, "150 %"),
        ({"latency": "0 ms"}, "0 ms"),
        ({"battery": "5 V"}, "battery"),
    ],
)
def test_what_is_no_limit_of_a_device_is_refused_with_its_words(given, quoted):
    with pytest.raises(NotUnderstood, match=quoted):
        encode_constraints(given)


def test_constraints_are_returned_as_they_are():
    device = Constraints(memory_bytes=5)
    assert encode_constraints(device) is device


def test_the_tighter_of_share_and_latency_counts():
    device = Constraints(compute_share=0.5, latency_seconds=0.2)
    assert device.seconds_limit(1.0) == 0.2
    assert device.seconds_limit(0.1) == 0.05
    assert Constraints().seconds_limit(1.0) is None


def test_every_limit_has_its_line():
    lines = encode_constraints({"memory_limit": "100 MB", "compute_limit": "50 %"}).understood
    assert "100,000,000 bytes" in lines[0] and "50 %" in lines[1]
