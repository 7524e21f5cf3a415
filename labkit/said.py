"""What was understood, in plain lines: the words, and what they are taken to mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from labkit.asking import NotUnderstood
from labkit.clause import Meaning

# Of two limits of a kind, which is the tighter.
_TIGHTER: dict[str, Callable] = {
    "max_bytes": min,
    "max_loss": min,
    "max_seconds": min,
    "max_time_share": min,
    "min_quality": max,
    "min_ratio": max,
}
_LINES = {
    "en": {
        "max_bytes": "the model takes at most {size} ({value:,} bytes)",
        "max_loss": "at most {points} of quality {are} lost (95 % may become {left} %)",
        "min_quality": "the quality is at least {percent} %",
        "max_seconds": "one call takes at most {time}",
        "max_time_share": "one call takes at most {percent} % of the time of float",
        "compute": "one call may use {percent} % of the compute of float: of its time, that is",
        "min_ratio": "the model is at least {value:.4g} times smaller than float",
        "bits": "every layer gets {value} bits",
        "method": "quantized the way {value!r}",
    },
    "zh": {
        "max_bytes": "模型最多占 {size}({value:,} 字节)",
        "max_loss": "质量最多损失 {points}(95 % 可降为 {left} %)",
        "min_quality": "质量至少为 {percent} %",
        "max_seconds": "单次推理最多用 {time}",
        "max_time_share": "单次推理时间最多为浮点模型的 {percent} %",
        "compute": "单次推理最多用浮点模型 {percent} % 的算力,即其时间",
        "min_ratio": "模型大小最多为浮点模型的 {inverse} %",
        "bits": "每层 {value} 位",
        "method": "量化方式为 {value!r}",
    },
}
_TIGHTEST = {"en": "{line}, the tightest of {n} such limits", "zh": "{line}(取 {n} 个中最严的)"}
_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_SIZES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "bytes"))


def language_of(text: str) -> str:
    """Return "zh" for a text with Chinese characters, else "en".

    >>> language_of("小于6MB")
    'zh'
    """
    return "zh" if re.search(r"[一-鿿]", text) else "en"


def combined(meanings: Sequence[Meaning]) -> list[Meaning]:
    """Return one meaning a field: the tighter of two limits.

    Raises `NotUnderstood` for two widths or two methods, as they contradict each other.

    >>> combined([Meaning("max_bytes", 6, "6 bytes"), Meaning("max_bytes", 4, "4 bytes")])
    [Meaning(field='max_bytes', value=4, text='4 bytes', compute=False)]
    """
    chosen: dict[str, Meaning] = {}
    for meaning in meanings:
        other = chosen.setdefault(meaning.field, meaning)
        if other.value == meaning.value:
            continue
        if meaning.field not in _TIGHTER:
            raise NotUnderstood(
                f'"{other.text}" and "{meaning.text}" contradict each other; say one of them'
            )
        tighter = _TIGHTER[meaning.field](other.value, meaning.value)
        chosen[meaning.field] = meaning if tighter == meaning.value else other
    return list(chosen.values())


def say(meaning: Meaning, meanings: Sequence[Meaning], language: str) -> str:
    """Return the line of one limit; `meanings` are all, to say which it was chosen from.

    >>> say(Meaning("max_seconds", 0.2, "200 ms"), [], "en")
    '"200 ms": one call takes at most 200 ms'
    """
    value = meaning.value
    numbers = isinstance(value, int | float)
    line = _LINES[language]["compute" if meaning.compute else meaning.field].format(
        value=value,
        size=_scaled(value, _SIZES) if numbers else "",
        time=_scaled(value, _TIMES) if numbers else "",
        inverse=f"{100 / value:.4g}" if numbers else "",
        percent=f"{100 * value:.6g}" if numbers else "",
        points=_points(100 * value, language) if numbers else "",
        are="is" if numbers and f"{100 * value:.6g}" == "1" else "are",
        left=f"{95 - 100 * value:.6g}" if numbers else "",
    )
    line = f'"{meaning.text}": {line}'
    same = {other.value for other in meanings if other.field == meaning.field}
    return _TIGHTEST[language].format(line=line, n=len(same)) if len(same) > 1 else line


def _points(value: float, language: str) -> str:
    shown = f"{value:.6g}"
    if language == "zh":
        return f"{shown} 个百分点"
    return f"{shown} point{'' if shown == '1' else 's'}"


def _scaled(value: float, scales: Sequence[tuple[float, str]]) -> str:
    factor, unit = next(((f, u) for f, u in scales if value >= f), scales[-1])
    return f"{value / factor:.6g} {unit}"
