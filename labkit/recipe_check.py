"""Is this a recipe? Every field of its own type, before anything is made from it.

A checksum that fits says that a file is whole, not that labkit wrote it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkit.checks import FLOAT_TYPES

_NONE = type(None)
_RECIPE = {"method": (str,), "attention": (list,), "folded": (list,), "layers": (dict,)}
_LAYER = {
    "kind": (str,),
    "bits": (int,),
    "shape": (list,),
    "signed": (bool,),
    "axis": (int, _NONE),
    "group_size": (int, _NONE),
    "geometry": (dict,),
    "dtype": (str, _NONE),
    "input": (dict, _NONE),
}
_INPUT = {"mode": (str,), "bits": (int,), "per_token": (bool,), "code_range": (list, _NONE)}
_DTYPES = [str(dtype).removeprefix("torch.") for dtype in FLOAT_TYPES]


def check_recipe(recipe: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    """Raise ValueError, naming the field, unless `recipe` is made as `labkit.recipe` makes it.

    `stored` are the tensors of the same file: a tie must name one of them.

    >>> check_recipe({"method": "static"}, {})
    Traceback (most recent call last):
    ...
    ValueError: the recipe has no readable 'attention'; ...
    """
    _check_fields("the recipe", recipe, {**_RECIPE, "ties": (dict,)})
    _check_fields("the recipe", {"biases": [], **recipe}, {"biases": (list,)})
    for field in ("attention", "folded", "biases"):
        _check_items("the recipe", field, recipe.get(field, []), str)
    for name, first in recipe["ties"].items():
        if not isinstance(first, str) or first not in stored:
            raise _unreadable("the recipe", "ties", f"{name} is tied to {first!r}")
    for name, layer in recipe["layers"].items():
        where = f"layer {name!r}"
        _check_fields(where, layer, _LAYER)
        _check_items(where, "shape", layer["shape"], int)
        if layer["dtype"] not in (None, *_DTYPES):
            raise _unreadable(where, "dtype", f"got {layer['dtype']!r}")
        if layer["input"] is None:
            continue
        where = f"the input of {where}"
        _check_fields(where, layer["input"], _INPUT)
        ends = layer["input"]["code_range"]
        if (ends is None) == (layer["input"]["mode"] == "static"):
            raise _unreadable(where, "code_range", f"got {ends!r}")
        _check_items(where, "code_range", [0, 0] if ends is None else ends, int, count=2)


def _check_fields(where: str, value: object, fields: Mapping[str, tuple[type, ...]]) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{where} holds {type(value).__name__} where fields should be")
    for field, kinds in fields.items():
        # Exact types: True is an int to Python.
        if type(value.get(field, ...)) not in kinds:
            raise _unreadable(where, field, f"got {value.get(field, 'nothing')!r:.40}")


def _check_items(
    where: str, field: str, values: list, kind: type, count: int | None = None
) -> None:
    if any(type(value) is not kind for value in values) or count not in (None, len(values)):
        raise _unreadable(where, field, f"got {values!r:.40}")


def _unreadable(where: str, field: str, got: str) -> ValueError:
    return ValueError(f"{where} has no readable {field!r}; {got}: labkit's save did not write it")
