"""Numbers and units, by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.asking import NotUnderstood, UnitMissing
from labkit.numerals import read_numeral
from labkit.quantities import parse_quantity


@pytest.mark.parametrize(
    ("text", "value", "kind"),
    [
        ("6 MB", 6e6, "bytes"),
        ("6MB", 6e6, "bytes"),
        ("6-MB", 6e6, "bytes"),
        ("6 MiB", 6 * 2**20, "bytes"),
        ("1,500 kB", 1.5e6, "bytes"),
        ("6兆", 6e6, "bytes"),
        ("200 ms", 0.2, "seconds"),
        ("0.3 ms", 0.0003, "seconds"),
        ("200 microseconds", 0.0002, "seconds"),
        ("2 min", 120, "seconds"),
        ("half a second", 0.5, "seconds"),
        ("10 Hz", 10, "hertz"),
        ("3 %", 3, "percent"),
        ("百分之三点五", 3.5, "percent"),
        ("八成", 80, "percent"),
        ("3 percentage points", 3, "points"),
        ("三个百分点", 3, "points"),
        ("4x", 4, "times"),
        ("4:1", 4, "times"),
        ("四倍", 4, "times"),
        ("3/4", 0.75, "fraction"),
        ("two thirds", 2 / 3, "fraction"),
        ("四分之三", 0.75, "fraction"),
        ("8-bit", 8, "bits"),
        ("8位", 8, "bits"),
        (".5 s", 0.5, "seconds"),
    ],
)
def test_a_quantity_is_read_in_si_units(text, value, kind):
    found = parse_quantity(text)
    assert (found.value, found.kind) == (pytest.approx(value), kind)


@pytest.mark.parametrize("text", ["6", "six", "6 M", "6 Mb", "6 b", "三"])
def test_a_number_without_a_clear_unit_is_asked_back(text):
    with pytest.raises(UnitMissing, match=text):
        parse_quantity(text)


@pytest.mark.parametrize("text", ["", "MB", "6 MB please", "-6 MB", "6,5 MB", "six of MB", "1/0 s"])
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(NotUnderstood):
        parse_quantity(text)


@pytest.mark.parametrize("given", [6, None, b"6 MB"])
def test_only_text_is_a_quantity(given):
    with pytest.raises(ValueError, match="must be a text"):
        parse_quantity(given)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("twenty-five", 25),
        ("two hundred and fifty", 250),
        ("three hundred thousand", 300_000),
        ("two point five", 2.5),
        ("one million", 10**6),
        ("2 million", 2 * 10**6),
        ("a hundred", 100),
        ("十", 10),
        ("二十五", 25),
        ("三百零五", 305),
        # A bare digit behind a place counts tenths of it.
        ("一百五", 150),
        ("两千五", 2500),
        ("一万二", 12_000),
        ("一百零五", 105),
        ("五〇〇", 500),
        ("两万", 20_000),
        ("六百五十万", 6_500_000),
        ("3千", 3000),
        ("1e-3", 0.001),
    ],
)
def test_a_number_is_read(text, value):
    found = read_numeral(text)
    assert (found.value, found.length) == (value, len(text))


@pytest.mark.parametrize("text", ["", "a model", "ones", "and", "point five", "分之三", "x"])
def test_what_is_no_number_is_none(text):
    assert read_numeral(text) is None


@pytest.mark.parametrize("text", ["五六", "三五", "二三十", "一百五六", "五百三千", "一百五点五"])
def test_a_chinese_number_that_is_not_clear_is_refused(text):
    with pytest.raises(NotUnderstood, match=f'"{text}" is no number that is clear'):
        read_numeral(f"{text}毫秒")


@pytest.mark.parametrize("text", ["万" * 90, "9" * 5000, f"{'9' * 400}/3", f"{'9' * 400}:1"])
def test_a_number_too_large_to_be_one_is_refused(text):
    with pytest.raises(NotUnderstood, match=text[:50]):
        parse_quantity(text)


@pytest.mark.parametrize("text", [f"1/{'9' * 5000}", f"{'9' * 5000}分之一"])
def test_a_share_too_small_to_be_one_is_nothing(text):
    assert parse_quantity(text).value == 0


@pytest.mark.parametrize(
    "text", ["hundred hundred", "two hundred three hundred", "six hundred thousand million"]
)
def test_hundreds_of_hundreds_and_thousands_of_millions_are_no_number(text):
    assert read_numeral(text).length < len(text)


@given(st.floats(1e-6, 1e12))
def test_a_number_comes_back_as_it_was_written(value):
    assert read_numeral(repr(value)).value == value


@given(st.integers(0, 10**9))
def test_thousands_may_have_commas(value):
    assert read_numeral(f"{value:,}").value == value
