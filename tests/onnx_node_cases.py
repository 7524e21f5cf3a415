"""onnx's own node test cases, as (node, inputs, outputs), without writing or downloading any."""

import importlib
from unittest import mock


def node_cases(module_name: str, class_name: str) -> dict[str, tuple]:
    """Return the cases that a module of onnx.backend.test.case.node declares: name → case."""
    module = importlib.import_module(f"onnx.backend.test.case.node.{module_name}")
    found = {}

    def expect(node, inputs, outputs, name, **_):
        found[name] = (node, inputs, outputs)

    with mock.patch.object(module, "expect", expect):
        kind = getattr(module, class_name)
        for name in dir(kind):
            if name.startswith("export"):
                getattr(kind, name)()
    return found
