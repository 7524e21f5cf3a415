"""What one clause of a request asks for: a quantity, what it limits, and in which direction."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from labkit.asking import UnitMissing
from labkit.checks import check_bits
from labkit.clause import METHODS, Clause, Meaning
from labkit.wording import Token

# Beyond these something else must have been meant.
_MOST_BYTES, _MOST_SECONDS, _LEAST_SECONDS = 1e15, 1e6, 1e-9
_MOST_TIMES, _MOST_LOSS = 1000, 50
_WITHIN = {"within", "以内", "以內", "之内", "内", "內"}


def read_clause(tokens: Sequence[Token]) -> Meaning:
    """Return what a clause with one quantity, or with the name of a method, asks for.

    Raises `labkit.asking.UnitMissing` for a number without a unit, `NotUnderstood` for
    everything that is not clear.

    >>> from labkit.quantities import parse_quantity
    >>> read_clause([Token("upper", "under"), Token("quantity", "6 MB", parse_quantity("6 MB"))])
    Meaning(field='max_bytes', value=6000000, text='under 6 MB', compute=False)
    """
    clause = Clause(tuple(tokens))
    if clause.kinds & set(METHODS):
        return Meaning("method", next(t.kind for t in tokens if t.kind in METHODS), clause.text)
    if len(clause.topics) > 1:
        raise clause.refused(f"it speaks of {' and '.join(sorted(clause.topics))} at once")
    if clause.has("upper") and clause.has("lower"):
        raise clause.refused("it says both at most and at least")
    if clause.has("loss", "no worse") and (clause.reduces or clause.has("faster")):
        raise clause.refused("it says twice, in different ways, that something is lost")
    if any(token.kind == "no worse" for token in clause.tokens[clause.place :]):
        raise clause.refused("it says what is not so; write at most 3 points worse")
    return _READERS[clause.kind](clause)


def _amount(clause: Clause, topics: set[str], example: str) -> None:
    """Check a clause that gives a size or a time itself: an upper limit and nothing else."""
    if clause.value <= 0:
        raise clause.refused(f"{clause.said} is no limit that can be kept; write {example}")
    clause.no_lower(f"write {example}")
    if clause.topics - topics:
        raise clause.refused(f"{clause.said} is no measure of {clause.topic}")
    if clause.has("float"):
        raise clause.refused(f"only what is wanted can be said, not what there is; write {example}")
    if clause.direction == "by" or clause.has("faster") or (clause.reduces and _delta(clause)):
        raise clause.refused(
            f"{clause.said} less, or {clause.said} left? write {example}, or a share: 75 % less"
        )


def _delta(clause: Clause) -> bool:
    # "shrink below 6 MB" says where it ends, "save at most 6 MB" and "6 MB less" do not.
    words = {token.text.lower() for token in clause.tokens if token.kind == "upper"}
    spatial = words & {"under", "below", "within", "<", "<="}
    return clause.direction != "to" and not (spatial and not clause.has("less", "smaller"))


def _bytes(clause: Clause) -> Meaning:
    _amount(clause, {"size"}, "under 6 MB")
    if not 1 <= clause.value <= _MOST_BYTES:
        raise clause.refused("no model has that size; write under 6 MB")
    return Meaning("max_bytes", int(clause.value), clause.text)


def _seconds(clause: Clause) -> Meaning:
    _amount(clause, {"time", "compute"}, "at most 200 ms")
    if clause.has("speed") and not clause.has("time") and clause.has("lower"):
        raise clause.refused("write at most 200 ms")
    if not _LEAST_SECONDS <= clause.value <= _MOST_SECONDS:
        raise clause.refused("no call takes that long; write at most 200 ms")
    return Meaning("max_seconds", clause.value, clause.text)


def _hertz(clause: Clause) -> Meaning:
    unclear = clause.reduces or clause.has("upper", "faster", "loss", "float", "compute")
    if unclear or clause.topics - {"time"} or not _LEAST_SECONDS < clause.value < 1e9:
        raise clause.refused("write at least 10 frames per second, or at most 100 ms")
    return Meaning("max_seconds", 1 / clause.value, clause.text)


def _points(clause: Clause) -> Meaning:
    if clause.topics - {"quality"} or clause.has("faster"):
        raise clause.refused("points measure quality only; write at most 3 points worse")
    lost = clause.reduces or clause.has("loss", "no worse", "float")
    within = any(token.text.lower() in _WITHIN for token in clause.tokens)
    if clause.topics and not (lost or within):
        raise clause.refused(
            f"{clause.said} lost, or left? write at most 3 points worse, or accuracy at least 95 %"
        )
    return _loss(clause)


def _loss(clause: Clause) -> Meaning:
    clause.no_lower("write at most 3 points worse")
    if clause.direction == "to":
        raise clause.refused("write accuracy at least 95 %, or at most 3 points worse")
    lost = round(clause.value / 100, 12)
    if not 0 < lost < _MOST_LOSS / 100:
        raise clause.refused(
            f"{clause.said} cannot be the quality lost: a measurement cannot promise a loss of 0, "
            f"and {_MOST_LOSS} points or more leave nothing; write at most 3 points worse, or "
            "accuracy at least 95 %"
        )
    return Meaning("max_loss", lost, clause.text)


def _percent(clause: Clause) -> Meaning:
    topic, value = clause.topic, clause.value
    if topic is None:
        raise UnitMissing(
            f'"{clause.text}": {clause.said} of what? Write for example "{value:g} points worse", '
            f'"{value:g} % less time" or "{value:g} % of the size"'
        )
    if topic == "quality":
        return _percent_of_quality(clause)
    if topic == "width" or clause.has("compression", "faster", "speed"):
        raise clause.refused(
            f'it can be read in two ways; write "{value:g} % less time", "{value:g} % smaller" or '
            '"2 times as fast"'
        )
    if value == 100 and topic == "compute" and not clause.reduces:
        return Meaning("max_time_share", 1.0, clause.text, compute=True)
    if not 0 < value < 100:
        raise clause.refused("a share must lie between 0 and 100 %")
    return _share(clause, value / 100)


def _percent_of_quality(clause: Clause) -> Meaning:
    # "3 % of the original accuracy" is relative: another number than 3 points.
    if clause.has("float") and clause.has("of"):
        raise clause.refused(
            "a share of a quality; write 3 points worse, or accuracy at least 95 %"
        )
    if clause.has("loss") or clause.reduces:
        return _loss(clause)
    if clause.has("no worse") or not clause.has("lower") or _relative(clause):
        raise clause.refused(
            'write "accuracy at least 95 %" for what must be left, "at most 3 points worse" for '
            "what may be lost"
        )
    left = round(clause.value / 100, 12)
    if not 0 < left < 1:
        raise clause.refused("a quality that can be asked for lies between 0 and 100 %")
    return Meaning("min_quality", left, clause.text)


def _relative(clause: Clause) -> bool:
    """Whether "of", or 的, stands behind the percent: 95 % of the accuracy."""
    behind = clause.tokens[clause.place + 1 :]
    return clause.has("float") or any(token.kind == "of" for token in behind)


def _share(clause: Clause, value: float) -> Meaning:
    """Read a share of size, time or compute: left over, or taken away."""
    if clause.topic not in ("size", "time", "compute"):
        raise clause.refused(f"a share of {clause.topic} is nothing to plan for")
    if clause.reduces and clause.direction != "to":
        if clause.has("upper"):
            raise clause.refused("it limits how much is saved; write at least 75 % less")
        left = 1 - value
    else:
        of_float = clause.has("of", "float") or clause.topic == "compute"
        if not (clause.direction == "to" or of_float or clause.kind == "fraction"):
            raise clause.refused(
                f'{clause.said} less, or {clause.said} left? write "{clause.said} less" or '
                f'"at most {clause.said} of the original"'
            )
        clause.no_lower(f"write at most {clause.said}")
        left = value
    return _left(clause, left)


def _left(clause: Clause, left: float) -> Meaning:
    if not 1 / _MOST_TIMES <= left < 1:
        raise clause.refused(f"{clause.said} is more than any quantization does, or nothing")
    if clause.topic == "size":
        return Meaning("min_ratio", round(1 / left, 9), clause.text)
    return Meaning("max_time_share", round(left, 12), clause.text, clause.topic == "compute")


def _fraction(clause: Clause) -> Meaning:
    if clause.topic is None:
        raise UnitMissing(
            f'"{clause.text}": {clause.said} of what? Write for example half the size'
        )
    if clause.topic in ("quality", "width") or clause.has("speed", "faster", "compression"):
        raise clause.refused("write half the size or half the time")
    return _share(clause, clause.value)


def _times(clause: Clause) -> Meaning:
    if clause.topic is None:
        raise UnitMissing(f'"{clause.text}": {clause.said} what? Write 4x smaller or 2x as fast')
    speed = clause.has("faster", "speed") and not clause.reduces
    sizes = clause.topic == "size" and (clause.reduces or clause.has("compression"))
    shorter = clause.topic in ("time", "compute") and clause.reduces and not clause.has("speed")
    if not (speed or sizes or shorter) or clause.direction in ("to", "by"):
        raise clause.refused("write 4 times smaller, or 2 times as fast")
    if clause.has("upper"):
        raise clause.refused("it limits what is gained; write at least 4 times smaller")
    if not 1 < clause.value <= _MOST_TIMES:
        raise clause.refused(f"a gain must be more than 1 and at most {_MOST_TIMES} times")
    return _left(clause, 1 / clause.value)


def _bits(clause: Clause) -> Meaning:
    other = clause.topics - {"width", "size", "quality"}
    limits = clause.has("upper", "lower", "loss", "faster", "less", "float", "smaller")
    if other or limits or clause.direction == "by":
        raise clause.refused("write 8 bits for every layer, or limit the size instead")
    if clause.value != int(clause.value) or not 2 <= clause.value <= 8:
        raise clause.refused("layers can have 2 to 8 bits")
    return Meaning("bits", check_bits(int(clause.value)), clause.text)


def _number(clause: Clause) -> Meaning:
    """A number without a unit: clear for a compression ratio or a bit width only."""
    if clause.has("compression"):
        return _times(clause)
    if clause.topics == {"width"}:
        return _bits(clause)
    said = clause.said
    ways = {
        "size": f"{said} MB",
        "time": f"{said} ms",
        "compute": f"{said} %",
        "quality": _of_quality(clause),
    }
    ask = ways.get(clause.topic, f"{said} MB, {said} ms or {said} points")
    raise UnitMissing(f'"{clause.text}": {said} of what? It has no unit; write for example {ask}')


def _of_quality(clause: Clause) -> str:
    """What to write for a number without a unit; 0.95 is taken for a share of 1 by its writer."""
    lost = clause.reduces or clause.has("loss", "no worse")
    form = "{} points" if lost else "accuracy at least {} %"
    said = form.format(clause.said)
    if clause.value >= 1:
        return said
    share = form.format(f"{100 * clause.value:g}")
    return f"{share} if a share of 1 is meant" + (f", else {said}" if lost else "")


_READERS: dict[str, Callable[[Clause], Meaning]] = {
    "bytes": _bytes,
    "seconds": _seconds,
    "hertz": _hertz,
    "percent": _percent,
    "points": _points,
    "fraction": _fraction,
    "times": _times,
    "bits": _bits,
    "number": _number,
}
