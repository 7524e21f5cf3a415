"""The two ways in which a request is not taken: asked back, or refused."""


class UnitMissing(ValueError):
    """A number has no unit, none that is clear, or is a share of nothing; the message asks for it.

    >>> issubclass(UnitMissing, ValueError)
    True
    """


class NotUnderstood(ValueError):
    """A request, or a part of it, that has no meaning here; the message quotes the words.

    >>> issubclass(NotUnderstood, ValueError)
    True
    """
