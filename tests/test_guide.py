"""The parameter guide: choices on made-up grids by hand, and the document's rules on MNIST."""

import pytest
import torch

from labkit.data import load_mnist
from labkit.guide import check_rules, recommend
from labkit.measurements import Grid, Measurement, measure_grid
from labkit.zoo import mnist_mlp

N = 10_000


def row(method, bits, samples, nbytes, correct, time=None):
    """A model that gets the first so many of the samples right."""
    return Measurement(method, bits, samples, nbytes, torch.arange(N) < correct, time)


FLOAT = row("float", 32, 0, 4000, 9500)


def grid(*rows):
    return Grid(FLOAT, rows)


def test_edge_takes_the_smallest_that_surely_keeps_its_quality():
    chosen = recommend(
        grid(
            row("static", 8, 100, 1000, 9490),
            row("static", 4, 100, 500, 9300),
            row("static", 2, 100, 250, 6000),
        )
    )
    assert chosen.choice.bits == 4


def test_surely_means_the_whole_interval():
    # 2.9 points lost on 10,000 samples: the interval reaches below -3.
    nearly = row("static", 4, 100, 500, 9500 - 290)
    assert nearly.against(FLOAT).difference > -0.03 > nearly.against(FLOAT).low
    chosen = recommend(grid(row("static", 8, 100, 1000, 9490), nearly))
    assert chosen.choice.bits == 8
    assert (
        recommend(grid(row("static", 8, 100, 1000, 9490), nearly), max_loss=0.04).choice.bits == 4
    )


def test_quality_takes_the_best_and_of_its_equals_the_smallest():
    best = row("qat", 8, 1000, 1000, 9600)
    equal = row("static", 8, 100, 900, 9598)
    worse = row("static", 4, 100, 500, 9500)
    chosen = recommend(grid(best, equal, worse), "quality")
    assert chosen.choice is equal
    assert "qat, 8 bits, 1000 samples" in chosen.reasons[0]
    assert recommend(grid(best, worse), "quality").choice is best


def test_of_one_size_the_one_that_needs_least_or_where_known_the_fastest():
    rows = [("qat", 1000), ("static", 100), ("static", 10), ("dynamic", 0)]
    same = [row(method, 8, samples, 1000 + i, 9500) for i, (method, samples) in enumerate(rows)]
    assert recommend(grid(*same)).choice.method == "dynamic"
    assert recommend(grid(*same[:3])).choice.samples == 10
    timed = [row("dynamic", 8, 0, 1000, 9500, 0.5), row("static", 8, 100, 1005, 9500, 0.3)]
    assert recommend(grid(*timed)).choice.method == "static"


def test_limits_leave_rows_out():
    rows = row("static", 8, 100, 1000, 9500, 0.4), row("static", 4, 100, 500, 9100, 0.6)
    assert recommend(grid(*rows), "quality", max_bytes=600).choice.bits == 4
    assert recommend(grid(*rows), "quality", max_time=0.5).choice.bits == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_bytes": 100}, r"max_bytes=100; the nearest is static, 4 bits, 100 samples with 500"),
        ({"max_loss": 0.0001}, r"max_loss=0.0001; the nearest is static, 8 bits"),
        ({"max_time": 0.1}, "needs measured times"),
        ({"max_time": 0}, "max_time must be a share above 0"),
        ({"max_bytes": 0}, "max_bytes must be at least 1"),
        ({"max_loss": 3}, "max_loss must be a proportion"),
        ({"scenario": "fast"}, "scenario must be one of edge, quality; got 'fast'"),
    ],
)
def test_the_limit_that_binds_is_named(options, message):
    rows = row("static", 8, 100, 1000, 9495), row("static", 4, 100, 500, 9000)
    with pytest.raises(ValueError, match=message):
        recommend(grid(*rows), **options)


def test_an_empty_grid_is_refused():
    with pytest.raises(ValueError, match="measure some first"):
        recommend(grid())


def verdicts(*rows):
    return [rule.verdict for rule in check_rules(grid(*rows))]


def test_the_documents_own_numbers_leave_its_rules_standing():
    # 95 % in float, 92 % at 8 bits, 85 % at 4: its rule of 8 bits on the edge allows just that.
    rows = row("static", 8, 10, 1000, 9000), row("static", 8, 100, 1000, 9300)
    found = verdicts(*rows, row("qat", 8, 1000, 1000, 9450), row("static", 4, 100, 500, 8500))
    assert found == ["holds", "holds", "holds", "holds", "does not hold"]


def test_rules_fall_when_the_measurements_say_so():
    rows = row("static", 8, 10, 1000, 9100), row("static", 8, 100, 1000, 8900)
    found = verdicts(*rows, row("qat", 8, 1000, 1000, 8000), row("static", 4, 100, 500, 9450))
    assert found == ["does not hold"] * 4 + ["holds"]


def test_equal_rows_resolve_nothing_and_missing_ones_are_not_measured():
    rows = row("static", 8, 10, 1000, 9400), row("static", 8, 100, 1000, 9400)
    assert verdicts(*rows, row("qat", 8, 1000, 1000, 9401))[1:] == [
        "not resolved",
        "not resolved",
        "not measured",
        "not measured",
    ]


@pytest.fixture(scope="module")
def measured():
    return measure_grid(mnist_mlp(), load_mnist(), progress=False)


def test_on_mnist_the_edge_rule_holds_and_four_bits_do_as_well(measured):
    rules = check_rules(measured)
    assert rules[0].verdict == rules[4].verdict == "holds"
    # Half the document's bytes, none of the quality lost that 1000 samples could show.
    chosen = recommend(measured, "edge").choice
    assert chosen.bits == 4 and not chosen.against(measured.original).resolved


def test_on_mnist_the_quality_rule_finds_no_support_at_eight_bits(measured):
    qat = check_rules(measured)[1]
    assert qat.verdict in ("not resolved", "does not hold") and "qat, 8 bits" in qat.evidence
    # Where rounding destroys the model, training repairs it.
    assert measured.find("qat", 2).against(measured.find("static", 2)).low > 0.1


def test_it_reads_as_a_choice_with_reasons(measured):
    text = str(recommend(measured, "quality"))
    assert text.startswith("quality: ") and text.count("because") == 2
    for rule in check_rules(measured):
        assert f"{rule.text}: {rule.verdict}" in text
