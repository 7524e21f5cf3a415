"""Who feeds whom: which layers of a model follow one another, found by tracing the data's way.

Transforms that move factors from one layer into the next (`labkit.transform`) must know that
nothing else reads what lies between. The order in which a class names its layers does not say that;
tracing its forward pass with `torch.fx` does.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

from torch import fx, nn

# What Python code raises when it meets a placeholder instead of a tensor: loops over it, len(), if.
_UNTRACEABLE = (
    fx.proxy.TraceError,
    ArithmeticError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)


class Step(NamedTuple):
    """One thing that happens to a value: a module (with its name), a function or a tensor method.

    >>> Step("relu1", nn.ReLU())
    Step(name='relu1', action=ReLU())
    """

    name: str  # The module's name in the model; "" for a function or a method.
    action: nn.Module | Callable | str


def flows(model: nn.Module) -> dict[str, list[Step]]:
    """Return, for every module without children, what happens next to its output and to that only.

    The list of a module ends where the value is read by two, meets another value, leaves the model,
    or enters a module that runs more than once. A module that itself runs more than once, or whose
    parameters are read from outside it, is left out. Arguments of `forward` that have a default
    keep it. Where fx cannot trace a module, because a forward pass in it depends on its values, the
    way is followed around its children as wholes, and then inside of each child by itself.

    >>> net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> {name: [step.name for step in steps] for name, steps in flows(net).items()}
    {'0': ['1', '2'], '1': ['2'], '2': []}
    """
    shared = _shared_modules(model)
    graphs = list(_graphs(model, ""))
    calls = Counter(
        # A parameter read directly, as in F.linear(x, self.fc.weight), counts for its owner.
        prefix + (str(n.target) if n.op == "call_module" else str(n.target).rpartition(".")[0])
        for prefix, graph in graphs
        for n in graph.nodes
        if n.op in ("call_module", "get_attr")
    )
    once = {name for name, count in calls.items() if count == 1 and name not in shared}
    return {
        prefix + node.target: list(_following(node, prefix, model, once))
        for prefix, graph in graphs
        for node in graph.nodes
        if node.op == "call_module"
        and prefix + node.target in once
        and next(model.get_submodule(prefix + node.target).children(), None) is None
    }


class _LeafTracer(fx.Tracer):
    """Stops at torch's own layers and at every module without children."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return super().is_leaf_module(m, module_qualified_name) or next(m.children(), None) is None


class _WholeTracer(fx.Tracer):
    """Stops at every module that is called."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _graphs(module: nn.Module, prefix: str) -> Iterator[tuple[str, fx.Graph]]:
    """Trace `module`, or where that fails around and inside its children; (name prefix, graph)."""
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(module.forward).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    # A model that is itself one layer has no data flow inside.
    if next(module.children(), None) is None:
        return
    try:
        yield prefix, _LeafTracer().trace(module, concrete_args=defaults)
    except _UNTRACEABLE:
        with suppress(*_UNTRACEABLE):
            yield prefix, _WholeTracer().trace(module, concrete_args=defaults)
        for name, child in module.named_children():
            yield from _graphs(child, f"{prefix}{name}.")


def _following(node: fx.Node, prefix: str, model: nn.Module, once: set[str]) -> Iterator[Step]:
    """Walk from `node` to its only reader, and on from there."""
    while len(node.users) == 1:
        node = next(iter(node.users))
        if len(node.all_input_nodes) != 1:
            return
        if node.op in ("call_function", "call_method"):
            yield Step("", node.target)
        elif node.op == "call_module" and prefix + node.target in once:
            name = prefix + node.target
            yield Step(name, model.get_submodule(name))
        else:
            return


def _shared_modules(model: nn.Module) -> set[str]:
    """Names of modules that the model holds at more than one place."""
    names = list(model.named_modules(remove_duplicate=False))
    places = Counter(id(module) for _, module in names)
    return {name for name, module in names if places[id(module)] > 1}
