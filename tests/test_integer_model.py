"""Whole networks in integers: against the float simulation, exact fractions and each other."""

from fractions import Fraction

import pytest
import torch
from torch import nn
from torch.nn import functional

from labkit.affine import QParams, dequantize, quantize
from labkit.data import load_mnist
from labkit.evaluate import accuracy
from labkit.integer_difference import code_differences
from labkit.integer_model import integer_forward, integer_stages, run_integer
from labkit.integer_steps import trace_linear
from labkit.layers import ActivationQuantizer, QuantLinear
from labkit.quantize import quantize_model
from labkit.zoo import mnist_cnn, mnist_mlp


@pytest.fixture(scope="module")
def mnist():
    return load_mnist()


@pytest.fixture(scope="module", params=[mnist_mlp, mnist_cnn], ids=["mlp", "cnn"])
def network(request, mnist):
    return quantize_model(request.param(), "static", calibration_data=[mnist.train_images[:300]])[0]


@pytest.fixture(scope="module")
def mlp(mnist):
    return quantize_model(mnist_mlp(), "static", calibration_data=[mnist.train_images[:300]])[0]


@pytest.mark.parametrize("requantize", ["fixed_point", "float"])
def test_accuracy_is_that_of_the_simulation(network, mnist, requantize):
    def run(images):
        return integer_forward(network, images, requantize=requantize)

    images, labels = mnist.test_images[:400], mnist.test_labels[:400]
    integer = accuracy(run, images, labels)
    simulated = accuracy(network, images, labels)
    # Of 400 images, those whose two best scores are a rounding apart may change.
    assert abs(integer.correct - simulated.correct) <= 2


def test_no_code_differs_from_the_simulation_by_more_than_one(network, mnist):
    for layer in code_differences(network, mnist.test_images[:100]):
        assert layer.largest <= 1


def test_the_network_step_by_step_has_the_same_codes(mlp, mnist):
    run = run_integer(mlp, mnist.test_images[:2])
    _, stages = integer_stages(mlp)
    codes = run.codes["fc2"]
    arguments = (stages[1].x_qparams, stages[1].layer.codes, stages[1].w_qparams, stages[1].bias)
    traces = trace_linear(codes, *arguments, stages[1].y_qparams, relu=True)
    assert run.codes["fc3"].tolist() == [[trace.result for trace in row] for row in traces]


def test_codes_that_enter_the_first_layer_are_the_quantized_input(network, mnist):
    images = mnist.test_images[:5]
    name, codes = next(iter(run_integer(network, images).codes.items()))
    grid = network.get_submodule(name).input_quantizer.qparams
    assert torch.equal(codes.flatten(), quantize(images.flatten(), grid))


def test_pooling_codes_is_pooling_values():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.MaxPool2d(2, padding=1), nn.ReLU(),
        nn.Conv2d(3, 2, 3, stride=2, groups=1), nn.Flatten(), nn.Linear(2, 4),
    )  # fmt: skip
    x = torch.randn(6, 2, 7, 7)
    quantized, _ = quantize_model(net, "static", calibration_data=[x])
    assert torch.allclose(integer_forward(quantized, x), quantized(x), atol=0.02)


class Functional(nn.Module):
    """Reshapes and rectifies by calls, not modules."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        return torch.relu(self.fc2(functional.relu(self.fc1(torch.flatten(x, 1))).view(-1, 5)))


def test_functional_calls_are_understood():
    torch.manual_seed(0)
    x = torch.randn(6, 2, 2)
    quantized, _ = quantize_model(Functional(), "static", calibration_data=[x])
    assert torch.allclose(integer_forward(quantized, x), quantized(x), atol=0.02)


def test_a_single_layer_gives_its_exact_sum():
    layer = nn.Linear(2, 1)
    grid = QParams(0.5, 10, 0, 255)
    codes = torch.tensor([[3, -2]], dtype=torch.int8)
    layer.bias.data.fill_(0.3)
    quantized = QuantLinear.from_codes(
        layer, codes, 8, QParams(0.25, 0, -128, 127), ActivationQuantizer(8, "static", qparams=grid)
    )
    # (14-10)·3 + (8-10)·(-2) = 16, and a bias of 0.3 / 0.125, rounded to 2.
    assert integer_forward(quantized, torch.tensor([[2.0, -1.0]])).item() == 18 * 0.125


def test_differences_are_counted_where_they_arise(mlp, mnist):
    images = mnist.test_images[:100]
    run = run_integer(mlp, images)
    _, stages = integer_stages(mlp)
    stage = stages[0]
    simulated = mlp.fc1(dequantize(run.codes["fc1"], stage.x_qparams)).detach()
    simulated = quantize(simulated.clamp(min=0), stage.y_qparams).int()
    integer = run.codes["fc2"].int()
    first = code_differences(mlp, images)[0]
    assert first.layer == "fc1" and first.codes == 100 * 256
    assert first.simulated == int((simulated != integer).sum())

    # Exact arithmetic: every value as a fraction.
    s_x, s_w, s_y = (
        [Fraction(v) for v in scale.flatten().tolist()]
        for scale in (stage.x_qparams.scale, stage.w_qparams.scale, stage.y_qparams.scale)
    )
    sums, bias = stage.accumulators(run.codes["fc1"]).tolist(), stage.layer.bias.tolist()
    whole = stage.bias.tolist()
    differ = by_bias = by_requantization = 0
    farthest = Fraction(0)
    for row, codes in zip(sums, integer.tolist(), strict=True):
        for c, (total, code) in enumerate(zip(row, codes, strict=True)):
            step = s_x[0] * s_w[c]
            value = max((total * step + Fraction(bias[c])) / s_y[0], 0)
            exact, biased = round(value), round(max((total + whole[c]) * step / s_y[0], 0))
            if min(exact, 255) != code:
                differ += 1
                by_bias += exact != biased
                by_requantization += min(biased, 255) != code
                farthest = max(farthest, abs(value % 1 - Fraction(1, 2)))
    assert (first.differ, first.bias, first.requantization) == (differ, by_bias, by_requantization)
    assert differ > 0
    assert float(farthest) == pytest.approx(first.from_middle, rel=1e-6)
    assert first.from_middle < 0.001


def test_float_requantization_leaves_only_the_bias_to_differ(mlp, mnist):
    for layer in code_differences(mlp, mnist.test_images[:300], requantize="float"):
        assert layer.requantization <= 1
        assert layer.bias >= layer.differ - 1
        assert "codes differ" in str(layer)


def linear_pair():
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))


def static(net, x):
    return quantize_model(net, "static", calibration_data=[x])[0]


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        y = self.fc1(x)
        return self.fc2(y) + y


X = torch.linspace(-1, 1, 20).reshape(5, 4)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: linear_pair(), "Linear"),
        (lambda: quantize_model(linear_pair(), "dynamic")[0], "layer '0' has no grid known before"),
        (lambda: quantize_model(linear_pair())[0], "layer '0' has no grid known before"),
        (lambda: static(Residual(), X), "is read 2 times"),
        (lambda: static(nn.Sequential(nn.Linear(4, 2), nn.Sigmoid()), X), r"\(Sigmoid\) is none"),
        (lambda: static(nn.Sequential(nn.Linear(4, 2), nn.Flatten()), X), "must end with its last"),
        (lambda: nn.Sequential(nn.Flatten()), "no quantized layer"),
        (
            lambda: static(
                nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")),
                torch.randn(1, 1, 4, 4),
            ),
            "pads with 'reflect'",
        ),
        (
            lambda: static(nn.Sequential(nn.Conv1d(1, 1, 3)), torch.randn(1, 1, 4)),
            "is a QuantConv1d",
        ),
    ],
)
def test_a_model_that_is_no_chain_of_integer_layers_is_refused(model, words):
    with pytest.raises(ValueError, match=words):
        integer_forward(model(), X)


def test_an_unknown_rounding_is_refused_before_any_work(mlp):
    with pytest.raises(ValueError, match="fixed_point, float"):
        integer_forward(mlp, "never looked at", requantize="up")
