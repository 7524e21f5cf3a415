"""Numbers as people write them: in digits, in English words, in Chinese numerals."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from labkit.asking import NotUnderstood


@dataclass(frozen=True)
class Numeral:
    """A number at the start of a text: its value, how many characters it takes, what it is.

    `kind`: "number", "fraction" (half, 1/4), "percent" (百分之三) or "ratio" (4:1).
    """

    value: float
    length: int
    kind: str = "number"


_DIGITS = re.compile(
    r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][+-]?\d+(?![a-zA-Z]))?|\.\d+", re.ASCII
)
_RATIO = re.compile(r"(\d+(?:\.\d+)?)\s?:\s?1(?![\d.])", re.ASCII)
_SLASH = re.compile(r"(\d+)\s?/\s?(\d+)(?![\d.])", re.ASCII)

_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_UNITS = f"zero one two three four five six seven eight nine {_TEENS}".split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905
_ENGLISH = {word: value for value, word in enumerate(_UNITS)}
_ENGLISH |= {word: 10 * value for value, word in enumerate(_TENS, 2)}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fifth": 5, "eighth": 8, "tenth": 10}
_WORD = re.compile(r"[a-z]+", re.IGNORECASE)
_GAP = re.compile(r"[ -](?=[a-z])", re.IGNORECASE)

_CHINESE = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "兩": 2}
_PLACES = {"十": 10, "百": 100, "千": 1000}
_MYRIADS = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
_NUMERAL = r"[零〇一二两兩三四五六七八九十百千万萬]+(?:点[零〇一二三四五六七八九]+)?"
_DIGIT = "[一二两兩三四五六七八九]"
_BELOW_10000 = rf"(?:{_DIGIT}?千)?(?:零?{_DIGIT}?百)?(?:零?{_DIGIT}?十)?(?:零?{_DIGIT})?"
# With its places, or digit by digit as in 五〇〇; but 五六 is "five or six".
_WELL_FORMED = re.compile(
    rf"(?:{_BELOW_10000}[万萬])?{_BELOW_10000}|[零〇一二三四五六七八九]{{3,}}|{_DIGIT}?[零〇]"
)
_SHORT = re.compile(rf"([百千万萬]){_DIGIT}$")
_PART_OF = re.compile(rf"(百|千|{_NUMERAL}|\d+)分之({_NUMERAL}|\d+(?:\.\d+)?)")


def read_numeral(text: str) -> Numeral | None:
    """Return the number that `text` starts with, None where it starts with none.

    Raises NotUnderstood, quoting it, for what may be read in two ways: 6,5 or 1.2.3 or 五六.

    >>> read_numeral("6.5 MB"), read_numeral("two hundred ms"), read_numeral("百分之三")
    (Numeral(value=6.5, length=3, kind='number'), Numeral(value=200, length=11, kind='number'), \
Numeral(value=3.0, length=4, kind='percent'))
    """
    part = _PART_OF.match(text)
    if part:
        return _chinese_part(part)
    if text[:1].isascii() and (text[:1].isdigit() or re.match(r"\.\d", text)):
        return _digits(text)
    if text.startswith("半"):
        return Numeral(0.5, 1, "fraction")
    chinese = re.match(_NUMERAL, text)
    if chinese:
        return Numeral(_chinese(chinese[0]), len(chinese[0]))
    return _english(text)


def _digits(text: str) -> Numeral:
    ratio, slash = _RATIO.match(text), _SLASH.match(text)
    if ratio:
        return Numeral(float(ratio[1]), ratio.end(), "ratio")
    if slash:
        below = float(slash[2])
        return Numeral(float(slash[1]) / below if below else math.inf, slash.end(), "fraction")
    found = _DIGITS.match(text)
    rest = re.match(r"[\d.,]*\d", text[found.end() :], re.ASCII)
    if rest:
        raise NotUnderstood(
            f'"{found[0]}{rest[0]}" can be read in two ways; write a point before decimals '
            "(6.5) and nothing, or a comma before every three digits, between thousands"
        )
    end, scale = found.end(), 1
    # 2 million, 3千
    word = re.match(r"\s?(hundred|thousand|million|billion)\b", text[end:], re.IGNORECASE)
    place = re.match(r"[百千万萬亿億]", text[end:])
    if word:
        end, scale = end + word.end(), _SCALES[word[1].lower()]
    elif place:
        named = _PLACES | _MYRIADS
        # 3千字节 are three kilobytes, either way.
        end, scale = end + 1, named[place[0]]
    return Numeral(float(found[0].replace(",", "")) * scale, end)


def _english(text: str) -> Numeral | None:
    """A run of number words; "and" only after a hundred or thousand, "point" before a digit."""
    whole = group = 0
    # Hundreds do not multiply hundreds, and millions stand before thousands.
    least = math.inf
    last, end, position = "", 0, 0
    while (word := _WORD.match(text, position)) is not None:
        name = word[0].lower()
        if name in _ENGLISH:
            value = _ENGLISH[name]
            # "two three" is no number; "twenty three" and "hundred three" are.
            if last and not (last in _SCALES or (last in _TENS and 0 < value < 10)):
                break
            group += value
        elif name in _SCALES and last != "point":
            scale = _SCALES[name]
            if scale >= least or (scale == 100 and group >= 100):
                break
            if scale == 100:
                group = (group or 1) * 100
            else:
                whole, group, least = whole + (group or 1) * scale, 0, scale
        elif name in ("a", "an") and not last:
            follows = _WORD.match(text, word.end() + 1)
            named = follows[0].lower() if follows else ""
            if named not in _SCALES and named not in _PARTS:
                return None
        elif _is_part(name) and (whole + group or last in ("", "a", "an")):
            return Numeral((whole + group or 1) / _PARTS[_singular(name)], word.end(), "fraction")
        elif name == "point" and last:
            decimals = re.match(rf"(?: (?:{'|'.join(_UNITS[:10])})\b)+", text[word.end() :], re.I)
            if decimals is None:
                break
            digits = "".join(str(_ENGLISH[d.lower()]) for d in decimals[0].split())
            return Numeral(float(f"{whole + group}.{digits}"), word.end() + decimals.end())
        elif not (name == "and" and last in _SCALES and _number_follows(text, word.end())):
            break
        if name != "and":
            last, end = name, word.end()
        gap = _GAP.match(text, word.end())
        if gap is None:
            break
        position = gap.end()
    return Numeral(whole + group, end) if end and last not in ("a", "an") else None


def _number_follows(text: str, position: int) -> bool:
    word = _WORD.match(text, position + 1)
    return word is not None and word[0].lower() in _ENGLISH


def _singular(name: str) -> str:
    return "half" if name == "halves" else name.removesuffix("s")


def _is_part(name: str) -> bool:
    return name in _PARTS or _singular(name) in _PARTS


def _chinese(text: str) -> float:
    whole, _, decimals = text.partition("点")
    short = _SHORT.search(whole)
    if not _WELL_FORMED.fullmatch(whole) or (short and decimals):
        raise NotUnderstood(f'"{text}" is no number that is clear; write it in digits, such as 150')
    total = group = digit = 0
    for sign in whole:
        if sign in _CHINESE:
            digit = digit * 10 + _CHINESE[sign]
        elif sign in _PLACES:
            group, digit = group + (digit or 1) * _PLACES[sign], 0
        else:
            total, group, digit = (total + group + digit or 1) * 10**4, 0, 0
    # 一百五 is 150, and only 一百零五 is 105.
    if short:
        digit *= (_PLACES | _MYRIADS)[short[1]] // 10
    value = total + group + digit
    digits = "".join(str(_CHINESE[sign]) for sign in decimals)
    return float(f"{value}.{digits}") if digits else value


def _chinese_part(found: re.Match) -> Numeral:
    above = float(found[2]) if found[2][0].isascii() else float(_chinese(found[2]))
    if found[1] == "百":
        return Numeral(above, found.end(), "percent")
    if found[1] == "千":
        return Numeral(above / 10, found.end(), "percent")
    below = float(found[1]) if found[1].isdecimal() else _chinese(found[1])
    return Numeral(above / below if below else math.inf, found.end(), "fraction")
