"""Numbers and words for pictures: short figures, estimated widths, line breaks."""

from __future__ import annotations

import math
from collections.abc import Sequence

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def short(value: float | int | str | bool, digits: int = 4) -> str:
    """A number in few characters: significant digits, thousands separators, a true minus sign.

    Integers are exact up to a billion; floats keep ``digits`` significant digits; very small and
    very large floats are written with a power of ten. Text passes through unchanged.

    >>> short(0.00784313725), short(-12.5), short(100_000), short(3.2e-7), short("on the tie")
    ('0.007843', '−12.5', '100,000', '3.2×10⁻⁷', 'on the tie')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, int) and abs(value) < 10**9:
        return f"{value:,}".replace("-", "−")
    value = float(value)
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    exponent = int(f"{value:.{digits - 1}e}".split("e")[1])
    if -5 < exponent < max(digits, 6):
        text = f"{value:,.{max(digits - 1 - exponent, 0)}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    else:
        mantissa = f"{value:.{digits - 1}e}".split("e")[0]
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        text = f"{mantissa}×".replace("1×", "", 1) if mantissa in ("1", "-1") else f"{mantissa}×"
        text = f"{text}10{superscript(exponent)}"
    return text.replace("-", "−")


def superscript(exponent: int) -> str:
    """A whole number as an exponent.

    >>> "10" + superscript(-12)
    '10⁻¹²'
    """
    return str(exponent).translate(_SUPERSCRIPT)


def width(text: str, size: float = 13.0, bold: bool = False) -> float:
    """Estimated width of ``text`` in pixels at a font size; a little generous on purpose.

    >>> width("iii") < width("mmm")
    True
    """
    return sum(map(_EMS.__getitem__, text)) * size * (1.08 if bold else 1.0)


class _Ems(dict[str, float]):
    """Width of a character in units of the font size, looked up once for each character."""

    def __missing__(self, character: str) -> float:
        if character in "iljtfrI.,:;|!'()[] /":
            ems = 0.38
        elif character in "mwMW@%→":
            ems = 0.92
        elif ord(character) > 0x2E80:
            ems = 1.0
        elif character.isupper() or character in "=+−×<>~≈":
            ems = 0.74
        else:
            ems = 0.62
        self[character] = ems
        return ems


_EMS = _Ems()


def fit(text: str, room: float, size: float = 13.0, bold: bool = False) -> str:
    """``text``, cut with an ellipsis where it would be wider than ``room`` pixels.

    >>> fit("a very long label indeed", 80)
    'a very lon…'
    """
    if width(text, size, bold) <= room:
        return text
    while text and width(text + "…", size, bold) > room:
        text = text[:-1]
    return text.rstrip() + "…"


def wrap(text: str, room: float, size: float = 13.0, bold: bool = False) -> tuple[str, ...]:
    """Break ``text`` at spaces (and at line ends) into lines no wider than ``room`` pixels.

    >>> wrap("one two three four", 70)
    ('one two', 'three four')
    """
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        if width(paragraph, size, bold) <= room:
            lines.append(paragraph)
            continue
        for word in paragraph.split(" "):
            longer = f"{line} {word}" if line else word
            if line and width(longer, size, bold) > room:
                lines.append(fit(line, room, size, bold))
                line = word
            else:
                line = longer
        lines.append(fit(line, room, size, bold))
    return tuple(lines)


def free_row(taken: list[Sequence[tuple[float, float]]], low: float, high: float) -> int:
    """First row of ``taken`` (rows of occupied intervals) where [low, high] overlaps nothing.

    Returns the number of rows when all are occupied there; the caller decides what then.

    >>> free_row([[(0, 10)], [(20, 30)]], 5, 15)
    1
    """
    for row, intervals in enumerate(taken):
        if all(high <= start or low >= end for start, end in intervals):
            return row
    return len(taken)
