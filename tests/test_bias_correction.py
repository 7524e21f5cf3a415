"""After the correction every layer gives the float model's mean in each channel."""

import copy

import pytest
import torch
from torch import nn

from labkit.bias_correction import correct_bias
from labkit.data import load_mnist
from labkit.files import load, save
from labkit.layers import QuantLayer
from labkit.quantize import quantize_model
from labkit.recipe_check import check_recipe
from labkit.rounding import learn_rounding
from labkit.transform import fold_batch_norm
from labkit.zoo import mnist_cnn, mnist_mlp


def data(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) + 0.5


def means(model, batches):
    """{layer name: mean output a channel}, by hooks of the test's own."""
    totals, handles = {}, []

    def watch(name, dim):
        def look(module, inputs, output):
            totals.setdefault(name, []).append(output.double().movedim(dim, 0).flatten(1))

        return look

    for name, module in model.named_modules():
        linear = isinstance(module, nn.Linear) or "Linear" in type(module).__name__
        if linear or "Conv" in type(module).__name__:
            handles.append(module.register_forward_hook(watch(name, -1 if linear else 1)))
    with torch.no_grad():
        for batch in batches:
            model(batch)
    for handle in handles:
        handle.remove()
    return {name: torch.cat(parts, 1).mean(1) for name, parts in totals.items()}


def assert_same_means(corrected, model, batches):
    wanted, got = means(model, batches), means(corrected, batches)
    assert wanted.keys() == got.keys()
    for name in wanted:
        assert torch.allclose(got[name], wanted[name], atol=1e-5), name


@pytest.fixture(scope="module")
def images():
    return load_mnist().train_images[:100]


NETS = {
    "mlp": lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3, bias=False)),
    "grouped": lambda: nn.Sequential(
        nn.Conv2d(4, 6, 3, groups=2), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1, groups=6)
    ),
    "conv1d": lambda: nn.Sequential(nn.Conv1d(4, 6, 3, padding=1, padding_mode="circular")),
}
SHAPES = {"mlp": (9, 6), "grouped": (5, 4, 8, 8), "conv1d": (5, 4, 8)}


@pytest.mark.parametrize("method", ["weight_only", "dynamic", "static"])
@pytest.mark.parametrize("name", NETS)
def test_every_layers_mean_is_that_of_the_float_model(name, method):
    torch.manual_seed(0)
    net = NETS[name]()
    # Batches of unlike sizes: a mean of means would be another number.
    batches = [data(*SHAPES[name]), 3 * data(*SHAPES[name], seed=2)[:2]]
    quantized, _ = quantize_model(net, method, bits=2, calibration_data=batches)
    corrected = correct_bias(quantized, net, batches)
    assert_same_means(corrected, net, batches)
    first, second = means(quantized, batches), means(net, batches)
    assert any((first[layer] - second[layer]).abs().max() > 0.01 for layer in first)


def test_a_folded_network_is_corrected(images):
    model = mnist_cnn()
    static, _ = quantize_model(model, "static", bits=2, calibration_data=images)
    corrected = correct_bias(static, model, images.split(50))
    assert_same_means(corrected, fold_batch_norm(model), [images])


def test_the_correction_is_the_published_one_for_a_single_layer():
    torch.manual_seed(0)
    net, x = nn.Linear(6, 3), data(40, 6)
    quantized, _ = quantize_model(net, bits=2)
    weight_error = quantized.weight - net.weight
    corrected = correct_bias(quantized, net, x)
    assert torch.allclose(corrected.bias, net.bias - weight_error @ x.mean(0), atol=1e-6)


def test_codes_and_grids_stay(images):
    model = mnist_mlp()
    quantized, _ = quantize_model(model, bits=2)
    corrected = correct_bias(quantized, model, images)
    for name, layer in quantized.named_modules():
        if isinstance(layer, QuantLayer):
            new = corrected.get_submodule(name)
            assert torch.equal(new.packed, layer.packed) and torch.equal(new.scale, layer.scale)


def test_what_was_passed_in_stays_as_it_was(images):
    model = mnist_cnn()
    quantized, _ = quantize_model(model, bits=2)
    states = [copy.deepcopy(m.state_dict()) for m in (model, quantized)]
    notes = copy.deepcopy(quantized.quantization_notes)
    correct_bias(quantized, model, images)
    for module, state in zip((model, quantized), states, strict=True):
        now = module.state_dict()
        assert now.keys() == state.keys()
        assert all(torch.equal(value, state[name]) for name, value in now.items())
    assert quantized.quantization_notes == notes


def test_a_model_with_new_biases_is_saved_and_loaded(images, tmp_path):
    model = mnist_cnn()
    quantized, _ = quantize_model(model, bits=3)
    corrected = learn_rounding(correct_bias(quantized, model, images), model, images, iterations=5)
    corrected = correct_bias(corrected, model, images)
    assert quantized.conv1.bias is None and corrected.conv1.bias is not None
    path = tmp_path / "corrected.safetensors"
    save(corrected, path)
    loaded = load(path, mnist_cnn(trained=False))
    assert torch.equal(loaded(images), corrected(images))
    assert loaded.quantization_notes == corrected.quantization_notes
    save(loaded, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_a_bias_that_no_correction_gave_is_another_structure(tmp_path):
    quantized, _ = quantize_model(nn.Sequential(nn.Linear(4, 2)))
    save(quantized, tmp_path / "with_bias.safetensors")
    with pytest.raises(ValueError, match=r"the model has no 0\.bias"):
        load(tmp_path / "with_bias.safetensors", nn.Sequential(nn.Linear(4, 2, bias=False)))


@pytest.mark.parametrize("biases", ["fc1", [1], None])
def test_a_recipe_with_unreadable_biases_is_refused(biases):
    recipe = {"method": "by hand", "attention": [], "folded": [], "layers": {}, "ties": {}}
    check_recipe(recipe, {})
    with pytest.raises(ValueError, match="no readable 'biases'"):
        check_recipe({**recipe, "biases": biases}, {})


class TwoHeads(nn.Module):
    """Two layers with one bias, behind a table."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.left, self.right = nn.Embedding(9, 4), nn.Linear(4, 3), nn.Linear(4, 3)
        self.right.bias = self.left.bias

    def forward(self, tokens):
        x = self.words(tokens)
        return self.left(x) + self.right(x)


def test_layers_that_share_a_bias_are_corrected_each_and_a_table_is_not(tmp_path):
    net, tokens = TwoHeads(), torch.arange(9).view(3, 3)
    quantized, _ = quantize_model(net, bits=2)
    corrected = correct_bias(quantized, net, tokens)
    assert_same_means(corrected, net, [tokens])
    assert torch.equal(corrected.words.packed, quantized.words.packed)
    assert corrected.words.bias is None
    save(corrected, tmp_path / "heads.safetensors")
    loaded = load(tmp_path / "heads.safetensors", TwoHeads())
    assert torch.equal(loaded(tokens), corrected(tokens))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_new_bias_has_the_models_precision(dtype):
    net = nn.Linear(6, 3, bias=False).to(dtype)
    corrected = correct_bias(quantize_model(net, bits=2)[0], net, data(5, 6).to(dtype))
    assert corrected.bias.dtype == dtype
    assert corrected(data(5, 6).to(dtype)).dtype == dtype


def test_attention_is_corrected():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False).eval()
    x = data(4, 5, 8)
    # Eight bits are nearly the float model, with attention that is split alike.
    fine, _ = quantize_model(encoder, bits=8)
    coarse, _ = quantize_model(encoder, bits=2)
    wanted = means(fine, [x])
    before, after = means(coarse, [x]), means(correct_bias(coarse, encoder, x), [x])
    for name in wanted:
        assert (after[name] - wanted[name]).norm() < 0.1 * (before[name] - wanted[name]).norm()


def test_no_batches_are_refused():
    net = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="there are no batches"):
        correct_bias(quantize_model(net)[0], net, iter(()))


def test_biases_are_still_known_when_further_layers_are_quantized(images, tmp_path):
    model = mnist_cnn()
    first, _ = quantize_model(model, bits={"conv1": 4})
    both, _ = quantize_model(correct_bias(first, model, images), bits={"fc": 4})
    save(both, tmp_path / "both.safetensors")
    loaded = load(tmp_path / "both.safetensors", mnist_cnn(trained=False))
    assert torch.equal(loaded(images), both(images))
