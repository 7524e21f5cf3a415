"""Where a quantized layer stands in an ONNX graph: which value holds the codes that enter it.

The exporter writes the same thing once: layers that read the same values on the same grid share one
QuantizeLinear, and equal tensors are stored under one name. So layers are found by their weights.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from labkit.layers import QuantLayer

# What multiplies an input with a weight.
_PRODUCTS = ("MatMul", "Gemm", "Conv")


def entering_codes(graph: onnx.GraphProto, visits: Iterable[tuple[str, QuantLayer]]) -> list[str]:
    """Return the name of the value that holds the codes of the input, for each visit of a layer.

    visits: (name, layer) of static layers, in the order in which they compute, one for each time
    that data passes. Raises ValueError, naming the layer, where the graph has no such place.
    """
    made_by = {output: node for node in graph.node for output in node.output}
    read_by = defaultdict(list)
    for node in graph.node:
        for value in node.input:
            read_by[value].append(node)
    stored = {tensor.name: tensor for tensor in graph.initializer}
    products: dict[str, Iterator[onnx.NodeProto]] = {}
    found = []
    for name, layer in visits:
        holder = _holder(name, layer, stored)
        node = next(products.setdefault(holder, _products(holder, read_by)), None)
        value = None if node is None else _before(node.input[0], made_by)
        if value is None:
            raise ValueError(f"the graph has no codes that enter the layer {name!r}")
        found.append(value)
    return found


def _holder(name: str, layer: QuantLayer, stored: Mapping[str, onnx.TensorProto]) -> str:
    """The stored tensor with the weight codes of a layer."""
    own = f"{name}.codes" if name else "codes"
    if own in stored:
        return own
    codes = layer.codes.numpy()
    for other, tensor in stored.items():
        array = numpy_helper.to_array(tensor)
        if array.dtype == codes.dtype and any(np.array_equal(array, c) for c in (codes, codes.T)):
            return other
    return own


def _products(holder: str, read_by: Mapping[str, list[onnx.NodeProto]]) -> Iterator[onnx.NodeProto]:
    """The products that a stored weight goes into, in the order of the graph."""
    values = deque([holder])
    while values:
        for node in read_by.get(values.popleft(), ()):
            if node.op_type in _PRODUCTS:
                yield node
            else:
                values.extend(node.output)


def _before(value: str, made_by: Mapping[str, onnx.NodeProto]) -> str | None:
    """Go back from what enters a product to the codes that it was."""
    while value in made_by:
        node = made_by[value]
        value = node.input[0]
        if node.op_type == "DequantizeLinear":
            return value
    return None
