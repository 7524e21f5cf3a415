"""From words to limits: a request is cut into clauses of one quantity, and each is read by itself.

A clause is read only when all of it is understood and its parts fit together. Anything else is
refused with the words quoted: the price of a misread "not under 6 MB" is paid by somebody else.
"""

from __future__ import annotations

import itertools
import re

from labkit.asking import NotUnderstood, UnitMissing
from labkit.clause import METHODS, TOPICS, Meaning, topics_of, words_of
from labkit.meaning import read_clause
from labkit.wording import Token, read_words

# Words that stand behind the quantity they belong to, where no comma cuts the clauses.
_BEHIND = {"less", "smaller", "faster", "filler", "of", "model", "float"}
_TURNS = {"cut", "shrink", "shorten", "less", "smaller", "faster", "loss"}
_POSTFIXES = ("or ", "以", "之", "内", "封顶")
# Signs and words that compare what stands before them with what stands behind.
_COMPARES = re.compile(
    r"[<>=≤≥⩽⩾]+|.* than|.*exceed.*|.*(?:below|under|above|over|beyond)|.*[于於過过]", re.I
)
# "A second model" is another one.
_COUNTED = {"model", "quality", "compute", "width", "speed", "size", "compression"}
_COUNTED_WORDS = ("limit", "cap", "budget", "ceiling", "step", "call", "machine", "device")
_FITS = {
    "bytes": {"size"},
    "seconds": {"time", "compute"},
    "hertz": {"time"},
    "bits": {"width"},
    "number": {"width", "size"},
}


def read_limits(text: str) -> list[Meaning]:
    """Return what a request in words asks for, one `Meaning` a clause, in order.

    Raises `labkit.asking.UnitMissing` for a number without a unit, `NotUnderstood` quoting
    words that have no meaning here, that contradict each other, or that ask for nothing.

    >>> [(m.field, m.value) for m in read_limits("under 6 MB, at most 3 points worse")]
    [('max_bytes', 6000000), ('max_loss', 0.03)]
    """
    if not isinstance(text, str):
        raise NotUnderstood(f'a request must be words such as "under 6 MB", got {text!r}')
    try:
        tokens = read_words(text)
        _refuse_unknown(tokens)
        _refuse_sums(tokens)
        _refuse_second(tokens)
        meanings = [read_clause(clause) for part in _parts(tokens) for clause in _clauses(part)]
    except (NotUnderstood, UnitMissing) as error:
        raise _with_request(error, text) from None
    if not meanings:
        raise NotUnderstood(
            f'nothing is asked for in "{text.strip()}"; write for example "under 6 MB, at most 3 '
            'points worse, 200 ms"'
        )
    return meanings


def _with_request(error: ValueError, text: str) -> ValueError:
    """The same error, with the whole request where its message does not hold it."""
    message, shown = str(error), " ".join(text.split())
    if shown not in message:
        message += f' (in "{shown}")'
    return type(error)(message)


def _refuse_unknown(tokens: list[Token]) -> None:
    """Quote every word that is not understood; neighbours together."""
    quoted: list[str] = []
    before = ""
    for token in tokens:
        if token.kind == "unknown":
            if before == "unknown":
                quoted[-1] += ("" if token.glued else " ") + token.text
            else:
                quoted.append(token.text)
        before = token.kind
    if quoted:
        # 分 is a minute, a point or a cent.
        minutes = any(token.kind == "unknown" and token.text == "分" for token in tokens)
        hint = "; write 分钟 for minutes, 个百分点 for points" if minutes else ""
        raise NotUnderstood("not understood: " + ", ".join(f'"{words}"' for words in quoted) + hint)


def _refuse_sums(tokens: list[Token]) -> None:
    """Refuse 1 min 30 s, or 1 min and 30 s: one amount in two numbers, or two limits?"""
    said = [token for token in tokens if token.kind != "and"]
    for one, other in itertools.pairwise(said):
        if one.kind != "quantity" or other.kind != "quantity":
            continue
        kind, values = one.quantity.kind, (one.quantity.value, other.quantity.value)
        if kind == other.quantity.kind and kind in ("bytes", "seconds") and len(set(values)) == 2:
            raise NotUnderstood(
                f'"{words_of([one, other])}" is not understood: write "{sum(values):.12g} {kind}" '
                "if it is one amount, and only the smaller one if it is two limits"
            )


def _refuse_second(tokens: list[Token]) -> None:
    for one, other in itertools.pairwise(tokens):
        counted = other.kind in _COUNTED or other.text.lower().startswith(_COUNTED_WORDS)
        if one.kind == "quantity" and one.text.lower() == "a second" and counted:
            raise NotUnderstood(
                f'"{words_of([one, other])}" is not understood: write 1 s for the time; '
                "another one cannot be asked for"
            )


def _parts(tokens: list[Token]) -> list[list[Token]]:
    """Cut at commas and "and"; a part without a quantity goes to the next one that fits it."""
    parts: list[list[Token]] = [[]]
    for token, following in itertools.pairwise([*tokens, None]):
        if token.kind == "and":
            parts.append([])
        elif token.kind in METHODS:
            if following is not None and following.kind in TOPICS:
                raise NotUnderstood(f'not understood: "{words_of([token, following])}"')
            parts.insert(-1, [token])
        else:
            parts[-1].append(token)
    whole: list[list[Token]] = []
    waiting: list[Token] = []
    for part in filter(_says_something, parts):
        if part[0].kind in METHODS:
            whole.append(part)
            continue
        named, here = topics_of(waiting), topics_of(part)
        if named and here and named != here:
            _refuse_empty(waiting)
        waiting = waiting + part
        if any(token.kind == "quantity" for token in part):
            whole.append(waiting)
            waiting = []
    if waiting:
        _refuse_empty(waiting)
    return whole


def _says_something(part: list[Token]) -> bool:
    return any(token.kind not in ("filler", "model", "of", "to") for token in part)


def _refuse_empty(part: list[Token]) -> None:
    raise NotUnderstood(f'"{words_of(part)}" names no number; say how much, such as "under 6 MB"')


def _clauses(part: list[Token]) -> list[list[Token]]:
    """Cut a part with several quantities into clauses of one each."""
    places = [i for i, token in enumerate(part) if token.kind == "quantity"]
    for place in places:
        _refuse_turned(part[place:])
    if len(places) < 2:
        return [part]
    clauses, start = [], 0
    for here, following in itertools.pairwise(places):
        end = here + 1
        while end < following and _belongs(part[end], part[start:end], part[here]):
            end += 1
        clauses.append(part[start:end])
        start = end
        if [t.kind for t in clauses[-1] if t.kind != "filler"][-1] == "of":
            raise NotUnderstood(
                f'"{words_of(part)}" is not understood: an amount of an amount; write one number, '
                "such as 25 % of the original size"
            )
    clauses.append(part[start:])
    for clause in clauses[1:]:
        # From 40 MB to 6 MB, or between 5 and 6: two quantities, but not two limits.
        if clause[0].kind == "to":
            raise NotUnderstood(f'"{words_of(part)}" is not understood: name one limit, not two')
    return clauses


def _refuse_turned(part: list[Token]) -> None:
    """Refuse 6 MB < size: the words are read as if the number stood behind them."""
    behind = [token for token in part[1:] if token.kind != "filler"][:2]
    if len(behind) == 2 and (behind[1].kind in TOPICS or behind[1].kind == "model"):
        compares = behind[0].kind in ("upper", "lower") and _COMPARES.fullmatch(behind[0].text)
        if compares and not behind[0].text.startswith(_POSTFIXES):
            raise NotUnderstood(
                f'"{words_of([part[0], *behind])}" is not understood: write the number last, '
                "such as size < 6 MB"
            )


def _belongs(token: Token, clause: list[Token], quantity: Token) -> bool:
    """Whether a word behind a quantity still speaks of it."""
    if token.kind in _BEHIND:
        return True
    if token.kind in ("upper", "lower"):
        return token.text.startswith(_POSTFIXES)
    if token.kind in TOPICS:
        fits = _FITS.get(quantity.quantity.kind)
        topics = topics_of(clause)
        return (fits is None or TOPICS[token.kind] in fits) and topics <= {TOPICS[token.kind]}
    if token.kind in _TURNS:
        # Behind a share, "a 75 % reduction"; but "6 MB reduce …", "6 MB lose …" begin anew.
        share = quantity.quantity.kind in ("percent", "points", "fraction", "times")
        begins = " " in token.text
        return share and not begins and not any(other.kind in _TURNS for other in clause)
    return False
