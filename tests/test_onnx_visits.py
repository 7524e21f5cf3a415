"""labkit/onnx_visits: layers are found in a graph in which equal things are written once."""

import onnx
import pytest
import torch
from torch import nn

from labkit.engine import compare_with_simulation
from labkit.onnx_export import export_onnx
from labkit.onnx_visits import entering_codes
from labkit.quantize import quantize_model


class Shared(nn.Module):
    """Two layers read one input, two have one weight, one runs twice."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.left, self.right, self.tied, self.twice = (nn.Linear(8, 8) for _ in range(4))
        self.tied.weight = self.left.weight

    def forward(self, x):
        y = self.left(x) + self.right(x)
        return self.twice(self.twice(self.tied(y.relu())).relu())


@pytest.fixture(scope="module")
def case():
    x = torch.randn(16, 8, generator=torch.Generator().manual_seed(1))
    return quantize_model(Shared(), "static", calibration_data=[x])[0], x


def test_every_visit_of_every_layer_is_compared(case):
    model, x = case
    found = compare_with_simulation(model, x)
    assert {name: total for name, (_, total) in found.codes.items()} == {
        "left": 128,
        "right": 128,
        "tied": 128,
        "twice": 256,
    }
    assert found.largest_step <= 1


def test_layers_that_read_the_same_have_one_place(case):
    model, x = case
    graph = onnx.load_from_string(export_onnx(model, x)).graph
    names = ("left", "right", "tied", "twice", "twice")
    left, right, *others = entering_codes(graph, [(n, getattr(model, n)) for n in names])
    assert left == right
    assert len({left, *others}) == 4


def test_a_layer_that_is_not_there_is_named(case):
    graph = onnx.helper.make_graph([], "nothing", [], [])
    with pytest.raises(ValueError, match="'left'"):
        entering_codes(graph, [("left", case[0].left)])
