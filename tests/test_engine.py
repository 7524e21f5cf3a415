"""The engine runs ONNX files, and the comparison with the simulation counts what differs."""

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from labkit.data import load_mnist
from labkit.engine import Agreement, Engine, compare_with_simulation, operators
from labkit.onnx_export import export_onnx
from labkit.quantize import quantize_model
from labkit.zoo import mnist_cnn, mnist_mlp


@pytest.fixture(scope="module")
def images():
    return load_mnist().test_images[:200]


@pytest.fixture(scope="module")
def models(images):
    made = {}
    for name, net in (("mlp", mnist_mlp()), ("cnn", mnist_cnn())):
        for method in ("weight_only", "dynamic", "static"):
            made[name, method] = quantize_model(net, method, calibration_data=images)[0]
    return made


def test_the_engine_computes_what_onnx_runtime_does(images):
    file = export_onnx(mnist_mlp(), images[:2])
    session = onnxruntime.InferenceSession(file)
    (wanted,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    assert torch.equal(Engine(file)(images), torch.from_numpy(wanted))


def test_a_float_model_agrees_with_torch(images):
    with torch.no_grad():
        wanted = mnist_cnn()(images)
    torch.testing.assert_close(Engine.of(mnist_cnn(), images)(images), wanted, rtol=1e-4, atol=1e-4)


def test_a_path_works_as_well_as_bytes(images, tmp_path):
    file = export_onnx(mnist_mlp(), images[:2], tmp_path / "mlp.onnx")
    assert torch.equal(Engine(tmp_path / "mlp.onnx")(images), Engine(file)(images))


def test_several_outputs_come_as_a_tuple():
    class Both(nn.Module):
        def forward(self, x):
            return x + 1, x - 1

    up, down = Engine.of(Both(), torch.zeros(2, 3))(torch.zeros(2, 3))
    assert (up.unique().item(), down.unique().item()) == (1.0, -1.0)


def test_the_batch_need_not_be_contiguous(images):
    engine = Engine.of(mnist_mlp(), images)
    turned = images.transpose(2, 3)
    torch.testing.assert_close(engine(turned), engine(turned.contiguous()), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["mlp", "cnn"])
@pytest.mark.parametrize("method", ["weight_only", "dynamic", "static"])
def test_real_execution_gives_the_same_digits(models, images, name, method):
    model = models[name, method]
    with torch.no_grad():
        simulated = model(images).argmax(1)
    executed = Engine.of(model, images)(images).argmax(1)
    assert (simulated != executed).sum() <= 1


def test_almost_no_code_of_the_static_mlp_differs(models, images):
    found = compare_with_simulation(models["mlp", "static"], images)
    assert list(found.codes) == ["fc1", "fc2", "fc3"]
    assert found.codes["fc1"] == (0, 200 * 784)
    assert sum(differing for differing, _ in found.codes.values()) <= 5
    assert found.largest_step <= 1
    assert found.max_abs < 1e-3 * found.largest


def test_codes_of_the_static_cnn_differ_by_one_step_and_it_says_why(models, images):
    found = compare_with_simulation(models["cnn", "static"], images)
    assert list(found.codes) == ["conv1", "depthwise", "pointwise", "conv4", "fc"]
    assert found.codes["conv1"][0] == 0
    total = sum(count for _, count in found.codes.values())
    assert sum(differing for differing, _ in found.codes.values()) < 0.01 * total
    assert found.largest_step <= 2
    assert "neighbouring code" in found.why


def test_the_codes_that_differ_lie_at_a_tie(models, images):
    """The first codes that can differ, those of fc2: each simulated value is halfway."""
    model = models["mlp", "static"]
    inputs = []
    hook = model.fc2.register_forward_pre_hook(lambda layer, given: inputs.append(given[0]))
    compare_with_simulation(model, images)
    hook.remove()
    grid = model.fc2.input_quantizer.qparams
    steps = inputs[0].double() / grid.scale.double()
    file = onnx.load_from_string(export_onnx(model, images))
    second = [node for node in file.graph.node if node.op_type == "QuantizeLinear"][1]
    del file.graph.output[:]
    file.graph.output.append(onnx.ValueInfoProto(name=second.output[0]))
    executed = Engine(file.SerializeToString())(images)
    differ = executed != model.fc2.input_quantizer.codes(inputs[0])
    assert ((steps[differ] % 1 - 0.5).abs() < 1e-3).all()


def test_the_block_kernel_of_weight_only_layers_is_named(models, images):
    found = compare_with_simulation(models["mlp", "weight_only"], images)
    assert "MatMulNBits" in found.why
    exact = compare_with_simulation(models["mlp", "weight_only"], images, accuracy_level=1)
    assert exact.max_abs < 1e-5 * exact.largest < found.max_abs


def test_a_dynamic_model_says_why_it_differs(models, images):
    found = compare_with_simulation(models["cnn", "dynamic"], images)
    assert found.exact or "last digits" in found.why or "run time" in found.why
    assert found.codes == {}


def test_agreement_in_words():
    text = str(Agreement(10, 8, 0.25, 2.0, {"fc1": (1, 30)}, 1, "Because."))
    assert text == (
        "8 of 10 outputs equal, largest difference 0.25 of 2; 1 of 30 activation codes differ, "
        "by at most 1. Because."
    )


def test_the_comparison_leaves_the_model_as_it_was(models, images):
    model = models["mlp", "static"].train()
    compare_with_simulation(model, images[:3])
    assert model.training and model.fc1.training
    assert not model.fc1._forward_pre_hooks
    model.eval()


def test_operators_of_the_file_and_of_the_session_differ(models, images):
    file = export_onnx(models["mlp", "static"], images)
    assert "DequantizeLinear" in operators(file, optimized=False)
    assert "DequantizeLinear" not in operators(file)


@pytest.mark.parametrize("method", ["weight_only", "static"])
def test_pieces_of_a_batch_give_what_the_whole_gives(models, images, method):
    model = models["mlp", method]
    whole, pieces = Engine.of(model, images), Engine.of(model, images, at_once=64)
    assert torch.equal(pieces(images), whole(images))


def test_no_piece_holds_more_samples_than_said():
    class Samples(nn.Module):
        def forward(self, x):
            return x + torch.ones_like(x[:, :1]).sum(), x

    counted, same = Engine.of(Samples(), torch.zeros(2, 1), at_once=3)(torch.zeros(7, 1))
    assert counted.flatten().tolist() == [3.0] * 6 + [1.0]
    assert same.shape == (7, 1)


def test_an_empty_batch_in_pieces_stays_empty():
    assert Engine.of(nn.ReLU(), torch.zeros(2, 2), at_once=3)(torch.zeros(0, 2)).shape == (0, 2)


class Sums(nn.Module):
    def forward(self, x, y):
        return x.sum() + y.sum()


def relu():
    return Engine.of(nn.ReLU(), torch.zeros(2, 2))


def sums():
    example = torch.zeros(2, 2)
    return Engine.of(Sums(), (example, example), at_once=2)


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: Engine("missing.onnx"), FileNotFoundError, "There is no ONNX file"),
        (lambda: Engine(b"no model"), ValueError, "not an ONNX model"),
        (lambda: Engine(b"", threads=0), ValueError, "threads must be at least 1"),
        (lambda: Engine(b"", threads=1.5), ValueError, "threads must be a whole number, got 1.5"),
        (lambda: Engine(b"", at_once=0), ValueError, "at_once must be at least 1 sample"),
        (
            lambda: sums()(torch.ones(3, 2), torch.ones(4, 2)),
            ValueError,
            "as many samples in every",
        ),
        (lambda: sums()(torch.ones(3, 2), torch.ones(3, 2)), ValueError, "one row a sample"),
        (lambda: Engine(b""), ValueError, "0 bytes: not an ONNX model"),
        (lambda: relu()(), ValueError, "takes 1 inputs"),
        (lambda: relu()(torch.zeros(2, 3)), ValueError, r"do not fit .* \(2, 3\) float32"),
        (lambda: relu()(torch.zeros(2, 2).double()), ValueError, r"do not fit .* float64"),
        (lambda: relu()([[0.0, 1.0]]), ValueError, "must be a torch tensor, got list"),
    ],
)
def test_what_cannot_run_says_so(make, error, said):
    with pytest.raises(error, match=said):
        make()
