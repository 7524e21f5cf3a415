"""Export of a quantized model to ONNX: labkit's own codes and scales, written into the graph.

Torch traces the model (`torch.export`), so that every model it can trace can be exported; quantized
layers write the operators of `labkit.onnx_layers`, everything else is torch's own translation.
"""

from __future__ import annotations

import copy
import inspect
import logging
import os
import warnings
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from labkit.layers import QuantLayer
from labkit.onnx_attention import OneOperatorAttention
from labkit.onnx_layers import onnx_layer

ACCURACY_LEVELS = (1, 4)


def export_onnx(
    model: nn.Module,
    example: Tensor | tuple[Tensor, ...],
    path: Path | str | None = None,
    *,
    accuracy_level: int = 4,
    any_batch: bool = True,
    fused: bool = False,
) -> bytes:
    """Return the model as the bytes of an ONNX file; write them to `path` when one is given.

    model: float or quantized by labkit; it is not modified. example: one input, or a tuple of them,
    shaped as the model takes it; its values do not matter. With `any_batch` the file takes any size
    of their first dimension. `accuracy_level` is what weight-only layers do with their float input:
    4 lets ONNX Runtime round it to 8-bit codes in blocks (its fast kernels), 1 keeps it in float.
    Static linear layers stand in the file in operators that every ONNX runtime knows (QDQ);
    `fused` writes ONNX Runtime's own operators instead, for them and for attention without a mask,
    which spares passes over their outputs.

    Raises ValueError for another accuracy level, for a model that torch cannot trace (the message
    holds torch's reason), and where a quantized layer still observes.

    >>> import onnx
    >>> file = export_onnx(nn.Sequential(nn.Linear(4, 2)), torch.zeros(1, 4))
    >>> [node.op_type for node in onnx.load_from_string(file).graph.node]
    ['Gemm']
    """
    if accuracy_level not in ACCURACY_LEVELS:
        raise ValueError(f"accuracy_level must be one of {ACCURACY_LEVELS}, got {accuracy_level!r}")
    inputs = example if isinstance(example, tuple) else (example,)
    if not inputs or not all(isinstance(x, Tensor) and x.ndim for x in inputs):
        shown = [tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__ for x in inputs]
        raise ValueError(
            "example must be a tensor with a batch dimension, or a tuple of such tensors, e.g. "
            f"torch.zeros(1, 784); got {shown}"
        )
    for name, layer in model.named_modules():
        quantizer = layer.input_quantizer if isinstance(layer, QuantLayer) else None
        if quantizer is not None and quantizer.mode == "observe":
            raise ValueError(f"layer {name!r} still observes; freeze its input quantizer first")
    # Strides that are not the ordinary ones would be traced too.
    inputs, dynamic = tuple(x.detach().contiguous() for x in inputs), None
    if any_batch:
        # A batch of one would be traced as "always one".
        inputs = tuple(torch.cat([x, x]) if len(x) == 1 else x for x in inputs)
        dynamic = tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs)
        kinds = [p.kind for p in inspect.signature(model.forward).parameters.values()]
        if kinds == [inspect.Parameter.VAR_POSITIONAL]:
            # forward(*inputs) has one parameter, which is a tuple.
            dynamic = (dynamic,)
    with OneOperatorAttention() if fused else nullcontext():
        file = _traced(_with_onnx_layers(model, accuracy_level, fused), inputs, dynamic)
    if path is not None:
        path = Path(path)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            part.write_bytes(file)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    return file


def _with_onnx_layers(model: nn.Module, *form: int) -> nn.Module:
    """Return a copy in eval mode in which every quantized layer writes ONNX operators."""
    if isinstance(model, QuantLayer):
        return onnx_layer(model, *form).eval()
    # The quantized layers are not copied but replaced, each once, however often it is used.
    replaced = {
        id(layer): onnx_layer(layer, *form)
        for layer in model.modules()
        if isinstance(layer, QuantLayer)
    }
    return copy.deepcopy(model, replaced).eval()


def _traced(model: nn.Module, inputs: tuple[Tensor, ...], dynamic: Any) -> bytes:
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                model, inputs, dynamo=True, dynamic_shapes=dynamic, verbose=False
            )
    except ImportError:
        raise
    except Exception as error:
        hint = "; any_batch=False may help" if dynamic else ""
        name = type(model).__name__
        raise ValueError(f"torch cannot trace {name} for ONNX{hint}: {error}") from error
    proto = program.model_proto
    # Torch notes for every node which lines of which files on this machine it came from.
    for part in (proto, proto.graph, *proto.graph.node, *proto.graph.value_info):
        del part.metadata_props[:]
    return proto.SerializeToString()


@contextmanager
def _quiet():
    """Silence notes about packages that the export does not need."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
