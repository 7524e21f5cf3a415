"""Many small engines from one trace: tracing takes longer than anything else here."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx.utils import Extractor
from torch import Tensor, nn

from labkit.engine import Engine
from labkit.onnx_export import export_onnx


class _Side(nn.Module):
    """Independent models beside each other: as many inputs as outputs."""

    def __init__(self, models: list[nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(model(x) for model, x in zip(self.models, inputs, strict=True))


def engines(
    models: Mapping[str, tuple[nn.Module, Tensor]], *, any_batch: bool = True
) -> dict[str, Engine]:
    """Return an engine for each {name: (model, example)}; a model has one input and one output.

    `any_batch` as in `labkit.onnx_export.export_onnx`.

    >>> import torch
    >>> both = engines({"a": (nn.Linear(4, 2), torch.zeros(1, 4)),
    ...                 "b": (nn.ReLU(), torch.zeros(1, 3))})
    >>> both["a"](torch.zeros(5, 4)).shape, both["b"](-torch.ones(1, 3)).max().item()
    (torch.Size([5, 2]), 0.0)
    """
    pairs = list(models.values())
    side = _Side([model for model, _ in pairs])
    file = export_onnx(side, tuple(x for _, x in pairs), any_batch=any_batch)
    whole = onnx.load_from_string(file)
    ends = [[part.name for part in side] for side in (whole.graph.input, whole.graph.output)]
    extractor = Extractor(whole)
    parts = (extractor.extract_model([i], [o]) for i, o in zip(*ends, strict=True))
    return {
        name: Engine(part.SerializeToString()) for name, part in zip(models, parts, strict=True)
    }
