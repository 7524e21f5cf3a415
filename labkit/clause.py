"""One clause of a request: its words and its one quantity, and what can be asked about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from labkit.asking import NotUnderstood
from labkit.wording import Token

METHODS = ("weight_only", "dynamic", "static", "qat")
# What one clause may speak of.
TOPICS = {
    "size": "size",
    "compression": "size",
    "time": "time",
    "speed": "time",
    "compute": "compute",
    "quality": "quality",
    "width": "width",
}
# Words that say what they speak of themselves.
_IMPLIED = {"smaller": "size", "shrink": "size", "faster": "time", "shorten": "time"}
_IMPLIED |= {"loss": "quality", "no worse": "quality"}
REDUCES = {"cut", "less", "smaller", "shrink", "shorten"}
# "A loss to 3 %" is what is lost, "degraded to 40 %" what is left.
_NOUNS = {"loss", "losses", "degradation", "penalty", "损失", "損失"}


@dataclass(frozen=True)
class Meaning:
    """One limit: the `field` of a `labkit.requirement.Requirement`, its value, the words said.

    `compute` marks a share of time that was named a share of compute.
    """

    field: str
    value: float | int | str
    text: str
    compute: bool = False


def topics_of(tokens: Sequence[Token]) -> set[str]:
    """Return what the words speak of by name: size, time, compute, quality, width.

    >>> topics_of([Token("size", "memory"), Token("filler", "is")])
    {'size'}
    """
    return {TOPICS[token.kind] for token in tokens if token.kind in TOPICS}


def words_of(tokens: Sequence[Token]) -> str:
    """Return the tokens as they were written, near enough to be recognized.

    >>> words_of([Token("upper", "under"), Token("quantity", "6 MB")])
    'under 6 MB'
    """
    return "".join(("" if t.glued else " ") + t.text for t in tokens).strip(" \"“”'()「」:")


@dataclass(frozen=True)
class Clause:
    """The tokens of a clause, of which one is a quantity, and what can be asked about them.

    >>> from labkit.wording import read_words
    >>> clause = Clause(tuple(read_words("reduce the size by 75 %")))
    >>> clause.topics, clause.value, clause.kind, clause.direction
    ({'size'}, 75.0, 'percent', 'by')
    """

    tokens: tuple[Token, ...]

    @cached_property
    def kinds(self) -> set[str]:
        """The classes of its words."""
        return {token.kind for token in self.tokens}

    @cached_property
    def text(self) -> str:
        """Its words."""
        return words_of(self.tokens)

    @cached_property
    def place(self) -> int:
        """Where the quantity stands."""
        return next(i for i, token in enumerate(self.tokens) if token.kind == "quantity")

    @property
    def kind(self) -> str:
        """What the quantity counts, as in `labkit.quantities.Quantity`."""
        return self.tokens[self.place].quantity.kind

    @property
    def value(self) -> float:
        """The quantity in SI units."""
        return self.tokens[self.place].quantity.value

    @property
    def said(self) -> str:
        """The quantity as it was written."""
        return self.tokens[self.place].quantity.text

    @cached_property
    def topics(self) -> set[str]:
        """What it speaks of, by name or by a word such as "faster"."""
        implied = {_IMPLIED[kind] for kind in self.kinds if kind in _IMPLIED}
        return topics_of(self.tokens) | implied

    @property
    def topic(self) -> str | None:
        """The one thing it speaks of, None where it does not say."""
        return next(iter(self.topics), None)

    def has(self, *kinds: str) -> bool:
        """Whether one of its words is of one of these classes."""
        return not self.kinds.isdisjoint(kinds)

    @property
    def reduces(self) -> bool:
        """Whether it says that something becomes less."""
        return self.has(*REDUCES)

    @cached_property
    def direction(self) -> str:
        """How the quantity is reached where something is reduced: "to", "by", or "" unsaid."""
        before = self.tokens[: self.place]
        while before and before[-1].kind in ("upper", "lower", "filler", "float", "of"):
            before = before[:-1]
        # 减半 holds its "by" itself, as a token without text behind it.
        if any(token.kind == "by" for token in (*before[-1:], *self.tokens[self.place :])):
            return "by"
        if not before:
            return ""
        last = before[-1]
        reduced = any(
            token.kind in REDUCES
            or (
                token.kind == "loss"
                and (token.text.lower() not in _NOUNS or last.text in ("到", "至"))
            )
            for token in before[:-1]
        )
        joined = last.kind in REDUCES and last.text.endswith(("到", "至"))
        return "to" if joined or (last.kind == "to" and reduced) else ""

    def refused(self, why: str) -> NotUnderstood:
        """Return the error that quotes the clause and says why."""
        return NotUnderstood(f'"{self.text}" is not understood: {why}')

    def no_lower(self, instead: str) -> None:
        """Raise `NotUnderstood` where it sets a lower limit."""
        if self.has("lower"):
            raise self.refused(f"a lower limit is nothing to plan for; {instead}")
