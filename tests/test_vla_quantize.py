"""Everything of the lab on a model of two inputs: the robot's policy."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from labkit.beside import Beside
from labkit.bias_correction import correct_bias
from labkit.blame import layer_errors
from labkit.divergence import MinusDivergence
from labkit.engine import Engine, compare_with_simulation
from labkit.files import header_bytes, load, save
from labkit.hessian import hessian_sensitivity
from labkit.layers import QuantLayer
from labkit.mixed import allocate_bits, widths_of
from labkit.quantize import quantizable_layers, quantize_model
from labkit.rounding import learn_rounding
from labkit.sensitivity import measure_sensitivity
from labkit.transform import equalize, fold_batch_norm
from labkit.vla.evaluate import ClosedLoop, calibration_batches, imitation_batches
from labkit.vla.policy import Policy
from labkit.vla.rollout import roll_out

PARTS = {"vision", "language", "fusion", "action_head"}


def small_policy():
    """Untrained, with batch norms that have something to fold."""
    torch.manual_seed(0)
    policy = Policy(width=16, language=16, reading=1, films=1).eval()
    for module in policy.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(values, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return policy


@pytest.fixture(scope="module")
def policy():
    return small_policy()


@pytest.fixture(scope="module")
def batches():
    return calibration_batches(48, batch_size=16)


@pytest.fixture(scope="module")
def inputs(batches):
    return batches[0]


@pytest.fixture(scope="module")
def quantized(policy, batches):
    options = {"weight_only": {"bits": 4}, "static": {"calibration_data": batches}}
    return {
        method: quantize_model(policy, method, **options.get(method, {}))[0]
        for method in ("weight_only", "dynamic", "static")
    }


def unlike(first, second, inputs):
    """The difference of two models' outputs, as a share of the first one's spread."""
    with torch.no_grad():
        wanted, got = first(*inputs), second(*inputs)
    return ((got - wanted).norm() / (wanted - wanted.mean(0)).norm()).item()


@pytest.mark.parametrize("method", ["weight_only", "dynamic", "static"])
def test_every_layer_of_every_part_is_quantized(policy, quantized, method):
    names = {n for n, m in quantized[method].named_modules() if isinstance(m, QuantLayer)}
    assert names == set(quantizable_layers(policy))
    assert {name.split(".")[0] for name in names} == PARTS


@pytest.mark.parametrize("method", ["dynamic", "static"])
def test_eight_bits_for_weights_and_activations_change_little(policy, quantized, inputs, method):
    assert unlike(policy, quantized[method], inputs) < 0.1


def test_weight_only_computes_with_the_dequantized_weights(policy, quantized, inputs):
    # Oracle: torch's own layers, given the weights that the codes stand for.
    twin = copy.deepcopy(policy)
    for name, layer in quantizable_layers(twin).items():
        layer.weight.data = quantized["weight_only"].get_submodule(name).weight
    with torch.no_grad():
        assert torch.equal(quantized["weight_only"](*inputs), twin(*inputs))


def test_the_positions_stay_float_and_are_counted(policy, batches):
    small, report = quantize_model(policy, bits=2)
    assert torch.equal(small.vision.position, policy.vision.position)
    rows = {row.name: row for row in report.layers}
    assert rows["vision"].bytes == rows["vision"].original_bytes == 4 * 16 * 64
    assert rows["language"].bytes == 4 * 10 * 16


def test_static_folds_every_batch_norm_and_changes_nothing_by_that(policy, quantized, inputs):
    norms = {n for n, m in policy.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert set(quantized["static"].quantization_notes["folded"]) == norms
    with torch.no_grad():
        wanted, got = policy(*inputs), fold_batch_norm(policy)(*inputs)
    assert torch.allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_what_film_and_attention_compute_is_watched_where_it_enters_a_layer(quantized):
    static = quantized["static"]
    for name in ("fusion.films.0.modulation", "fusion.films.0.convolution", "fusion.join"):
        assert static.get_submodule(name).input_quantizer.mode == "static"
    block = static.language.blocks[0]
    grids = [layer.input_quantizer.scale for layer in (block.query, block.key, block.value)]
    assert torch.equal(grids[0], grids[1]) and torch.equal(grids[1], grids[2])
    assert static.language.embedding.input_quantizer is None


@pytest.mark.parametrize("method", ["weight_only", "dynamic", "static"])
def test_the_packed_file_acts_the_same_and_has_the_reported_size(
    policy, quantized, batches, tmp_path, method
):
    path = tmp_path / "robot.safetensors"
    save(quantized[method], path)
    loaded = load(path, Policy(width=16, language=16, reading=1, films=1))
    episodes = [("go to", 0), ("put next to", 1)]
    before, after = (roll_out(model, episodes) for model in (quantized[method], loaded))
    assert [r.actions.tolist() for r in before] == [r.actions.tolist() for r in after]
    options = {"bits": 4} if method == "weight_only" else {"calibration_data": batches}
    _, report = quantize_model(policy, method, **options)
    assert path.stat().st_size - header_bytes(path) == report.quantized_bytes


def test_imitation_under_quantization_lowers_the_loss_at_two_bits(policy):
    loader = imitation_batches(5, batch_size=16)
    (pictures, words), actions = next(iter(imitation_batches(1, batch_size=64, seed=9)))

    def evaluate(model):
        with torch.no_grad():
            return -functional.cross_entropy(model(pictures, words), actions).item()

    rounded, _ = quantize_model(policy, bits=2)
    trained, report = quantize_model(
        policy, "qat", bits=2, train_loader=loader, num_epochs=3, evaluate=evaluate
    )
    assert report.quality > evaluate(rounded)
    assert report.control_quality is not None
    assert all(m.bits == 2 for m in trained.modules() if isinstance(m, QuantLayer))


@pytest.mark.parametrize("step_rule", ["range", "learned"])
def test_training_ends_as_the_model_that_is_stored(policy, inputs, step_rule):
    seen = {}

    def validate(model):
        with torch.no_grad():
            seen["scores"] = model(*inputs)
        return 0.0

    trained, _ = quantize_model(
        policy,
        "qat",
        bits=3,
        train_loader=imitation_batches(2, batch_size=16),
        num_epochs=1,
        training={"validate": validate, "step_rule": step_rule},
    )
    with torch.no_grad():
        assert torch.allclose(trained(*inputs), seen["scores"], rtol=1e-4, atol=1e-4)


def test_widths_of_their_own_fit_the_budget_and_beat_the_uniform_width(policy, batches, inputs):
    quality = MinusDivergence(policy, batches[:1])
    table = measure_sensitivity(policy, quality, bits=(2, 3, 4, 6, 8))
    uniform, report = quantize_model(policy, bits=3)
    budget = report.quantized_bytes - table.other_bytes
    choice = allocate_bits(table.loss, [(table.bytes, budget)])
    mixed, mixed_report = quantize_model(policy, bits=widths_of(table, choice))
    assert mixed_report.quantized_bytes <= report.quantized_bytes
    assert quality(mixed) > quality(uniform)


def test_two_processes_measure_the_same_sensitivity(policy):
    closed_loop = ClosedLoop([("go to", 0), ("pick up", 0)])
    layers = {"exclude": ("vision", "language", "fusion")}
    one, two = (
        measure_sensitivity(policy, closed_loop, bits=(2, 8), n_jobs=n, **layers) for n in (1, 2)
    )
    assert one.quality.tolist() == two.quality.tolist()
    assert one.layers == ("action_head.look", "action_head.hidden", "action_head.out")


def test_curvature_predicts_from_two_inputs(policy):
    loader = imitation_batches(1, batch_size=16)
    table = hessian_sensitivity(policy, list(loader), bits=(2, 8), samples=1)
    assert len(table.layers) == len(quantizable_layers(policy))


def test_the_bias_is_corrected_where_it_was_shifted(policy, batches):
    rounded, _ = quantize_model(policy, bits=3)
    corrected = correct_bias(rounded, policy, batches)
    last = "action_head.out"
    for model, close in ((rounded, False), (corrected, True)):
        wanted = torch.cat([y for _, y in Beside(model, policy, batches).visits(last)])
        with torch.no_grad():
            got = torch.cat([model(*batch) for batch in batches])
        assert torch.allclose(got.mean(0), wanted.mean(0), atol=1e-5) is close


def test_learned_rounding_is_nearer_to_the_float_policy(policy, batches, inputs):
    rounded, _ = quantize_model(policy, bits=2)
    learned = learn_rounding(rounded, policy, batches, iterations=30)
    assert unlike(policy, learned, inputs) < unlike(policy, rounded, inputs)


def test_equalizing_changes_no_output(policy, inputs):
    assert unlike(policy, equalize(policy), inputs) < 1e-5


def test_the_error_is_followed_through_all_layers(policy, quantized, inputs):
    table = layer_errors(policy, quantized["weight_only"], inputs)
    assert len(table.rows) == len(quantizable_layers(policy))


def test_the_float_policy_runs_for_real_on_any_number_of_rooms(policy, inputs):
    engine = Engine.of(policy, inputs)
    assert engine.inputs == ("pictures", "words")
    for n in (1, 5):
        few = tuple(x[:n] for x in inputs)
        with torch.no_grad():
            assert torch.allclose(engine(*few), policy(*few), rtol=1e-4, atol=1e-5)


def test_a_policy_in_the_engine_gives_and_does_what_its_simulation_does(quantized, inputs):
    # MatMulNBits that does not round its input computes what the simulation computes.
    model = quantized["weight_only"]
    engine = Engine.of(model, inputs, accuracy_level=1)
    with torch.no_grad():
        assert torch.allclose(engine(*inputs), model(*inputs), rtol=1e-4, atol=1e-5)
    episodes = [("go to", 0), ("put next to", 1)]
    simulated, real = roll_out(model, episodes), roll_out(engine, episodes)
    assert [r.actions.tolist() for r in simulated] == [r.actions.tolist() for r in real]


@pytest.fixture(scope="module")
def run_static(quantized, inputs):
    return compare_with_simulation(quantized["static"], inputs)


def test_static_runs_on_integers_and_few_codes_differ(quantized, run_static):
    modules = quantized["static"].named_modules()
    watched = {n for n, m in modules if getattr(m, "input_quantizer", None) is not None}
    assert set(run_static.codes) == watched
    differing, codes = (sum(part) for part in zip(*run_static.codes.values(), strict=True))
    assert differing < 0.01 * codes and run_static.largest_step <= 3
    assert run_static.max_abs < 0.05 * run_static.largest


def test_codes_that_enter_together_are_counted_for_each_layer(run_static):
    query, key, value = (
        run_static.codes[f"language.blocks.0.{name}"] for name in ("query", "key", "value")
    )
    assert query == key == value


def test_an_embedding_is_no_reason_for_rounded_inputs(run_static):
    assert "MatMulNBits" not in run_static.why


def test_dynamic_runs_on_integers(policy, inputs):
    # One scale a batch, one a word and one an image are all in these two parts.
    dynamic, _ = quantize_model(policy, "dynamic", exclude=("vision", "language"))
    found = compare_with_simulation(dynamic, inputs)
    assert found.max_abs < 0.05 * found.largest
