"""Latency is arithmetic on a clock: tested with clocks that these tests move themselves."""

import gc

import numpy as np
import pytest
import torch

from labkit.latency import Latency, last_level_cache, measure_latency


class Clock:
    """Time passes only when a candidate says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def takes(self, seconds):
        def candidate():
            self.now += seconds() if callable(seconds) else seconds

        return candidate


def measured(times, **options):
    clock = Clock()
    candidates = {name: clock.takes(seconds) for name, seconds in times.items()}
    return measure_latency(candidates, clock=clock, **options)


def test_medians_and_ratios_are_those_of_the_clock():
    report = measured({"float": 0.008, "int8": 0.002})
    assert report["float"].median == pytest.approx(0.008)
    assert report["int8"].ratio == pytest.approx(0.25)
    assert report["int8"].verdict == "4.0 × faster"


def test_a_slower_candidate_says_so():
    assert measured({"float": 0.001, "int8": 0.003})["int8"].verdict == "3.0 × slower"


def test_the_first_candidate_is_the_reference():
    report = measured({"a": 0.001, "b": 0.002})
    assert (report["a"].ratio, report["a"].ratio_low, report["a"].ratio_high) == (1, 1, 1)


def test_a_difference_within_the_noise_is_not_resolved():
    noise = np.random.default_rng(1)
    times = {name: lambda: 0.001 * noise.uniform(0.5, 1.5) for name in ("a", "b")}
    row = measured(times, cold=True, evict=lambda: None)["b"]
    assert row.ratio_low < 1 < row.ratio_high
    assert row.verdict == "not resolved"


def test_a_difference_beyond_the_noise_is_resolved():
    noise = np.random.default_rng(2)
    times = {
        "a": lambda: 0.002 * noise.uniform(0.8, 1.2),
        "b": lambda: 0.001 * noise.uniform(0.8, 1.2),
    }
    row = measured(times, cold=True, evict=lambda: None)["b"]
    assert 0.4 < row.ratio_low < row.ratio < row.ratio_high < 0.6
    assert row.resolved


def test_the_interval_covers_the_true_ratio_in_about_19_of_20_runs(monkeypatch):
    # Forty collections of what all other tests left behind took most of the time.
    monkeypatch.setattr(gc, "collect", lambda: 0)
    noise = np.random.default_rng(3)
    covered = 0
    for seed in range(40):
        times = {
            "a": lambda: 0.001 * noise.lognormal(0, 0.3),
            "b": lambda: 0.0005 * noise.lognormal(0, 0.3),
        }
        row = measured(times, cold=True, evict=lambda: None, seed=seed)["b"]
        covered += row.ratio_low <= 0.5 <= row.ratio_high
    assert covered >= 34


def test_quartiles_enclose_the_median():
    noise = np.random.default_rng(4)
    row = measured({"a": lambda: noise.uniform(1, 3)}, cold=True, evict=lambda: None)["a"]
    assert 1 < row.low < row.median < row.high < 3


def test_candidates_are_interleaved_in_changing_order():
    order = []
    candidates = {name: lambda name=name: order.append(name) for name in "abc"}
    measure_latency(candidates, rounds=20, cold=True, evict=lambda: None)
    # What comes before the rounds warms up.
    rounds = [order[i : i + 3] for i in range(len(order) - 60, len(order), 3)]
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)
    assert len({tuple(names) for names in rounds}) > 3


def test_cold_evicts_before_every_timed_call():
    seen = []
    measure_latency(
        {name: lambda name=name: seen.append(name) for name in "ab"},
        rounds=5,
        cold=True,
        evict=lambda: seen.append("evict"),
    )
    assert seen.count("evict") == 10
    assert all(seen[i + 1] in "ab" for i, what in enumerate(seen) if what == "evict")


def test_eviction_is_not_part_of_the_time():
    clock = Clock()
    candidates = {"a": clock.takes(0.001)}
    report = measure_latency(candidates, cold=True, clock=clock, evict=clock.takes(1.0))
    assert report["a"].median == pytest.approx(0.001)


def test_hot_is_called_untimed_for_milliseconds_before_each_timed_block():
    clock = Clock()
    starts = {"quick": [], "slow": []}

    def candidate(name, seconds):
        def call():
            starts[name].append(clock.now)
            clock.now += seconds

        return call

    candidates = {name: candidate(name, s) for name, s in (("quick", 1e-3), ("slow", 0.02))}
    measure_latency(candidates, rounds=4, clock=clock)
    # One call makes a block; before it come as many as last 5 ms, doubled from one: 8, and one.
    assert len(starts["quick"]) == (1 + 1) + (1 + 1 + 2 + 4 + 8) + 4 * (8 + 1)
    assert len(starts["slow"]) == 2 * (1 + 1) + 4 * (1 + 1)


def test_short_calls_are_timed_in_blocks_and_reported_per_call():
    clock, calls = Clock(), []

    def short():
        calls.append(1)
        clock.now += 1e-6

    report = measure_latency({"short": short}, rounds=3, clock=clock)
    assert report["short"].median == pytest.approx(1e-6)
    assert len(calls) > 1000


def test_threads_are_held_and_restored():
    before, inside = torch.get_num_threads(), []
    measure_latency({"a": lambda: inside.append(torch.get_num_threads())}, rounds=3, threads=2)
    assert set(inside) == {2}
    assert torch.get_num_threads() == before


def test_what_a_candidate_raises_comes_through_and_all_is_restored():
    before = torch.get_num_threads()

    def fails():
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        measure_latency({"a": fails}, threads=before + 1)
    assert torch.get_num_threads() == before
    assert gc.isenabled()
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"candidates": {}}, "at least one candidate"),
        ({"candidates": {"a": int}, "rounds": 2}, "at least 3 rounds"),
        ({"candidates": {"a": int}, "threads": 0}, "1 thread"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        measure_latency(**arguments)


def test_an_unknown_candidate_lists_the_known():
    with pytest.raises(KeyError, match="there are a, b"):
        measured({"a": 1.0, "b": 1.0})["c"]


def test_the_report_as_text_holds_every_candidate_and_the_conditions():
    text = str(measured({"float": 0.004, "int8": 0.001}, rounds=7))
    assert "7 rounds, 1 thread" in text
    assert "4 ms (4 to 4)" in text
    assert "0.25 (0.25 to 0.25)" in text
    assert "hot" in text


def test_names_are_escaped_in_html():
    assert "<b>" not in measured({"<b>": 1.0})._repr_html_()


def test_any_two_candidates_can_be_compared():
    report = measured({"float": 0.008, "a": 0.002, "b": 0.001})
    assert report.compare("b", "a").ratio == pytest.approx(0.5)
    assert report.compare("b", "float").ratio == report["b"].ratio


def test_the_dict_holds_the_numbers():
    found = measured({"a": 0.002, "b": 0.001}).as_dict()
    assert found["candidates"]["b"]["ratio"] == pytest.approx(0.5)
    assert found["rounds"] == 30


def test_a_row_that_holds_one_is_not_resolved():
    assert not Latency("a", 1, 1, 1, 0.9, 0.8, 1.0).resolved
    assert Latency("a", 1, 1, 1, 0.9, 0.8, 0.99).resolved


def test_the_last_cache_has_a_sensible_size():
    assert 2**18 <= last_level_cache() <= 2**31
