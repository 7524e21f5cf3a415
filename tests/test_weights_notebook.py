"""Notebook 04 without the optional network: it says so in one line each time, and still runs."""

import contextlib
import io
import json
from pathlib import Path

import pytest

from labkit.compare import Comparison, cosine
from labkit.explorers import equalizing, real_bits, real_network
from labkit.explorers.real_network import (
    PICTURES,
    VARIANTS,
    full_size,
    full_size_pictures,
    in_float,
    network,
    pictures,
    run,
)
from labkit.explorers.weight_choices import measure
from labkit.quantize import quantize_model

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "04_weights.ipynb"


def test_it_runs_without_the_network(monkeypatch, tmp_path):
    monkeypatch.setenv("LAB_PROGRESS", str(tmp_path))
    monkeypatch.setattr(real_network, "is_here", lambda: False)
    monkeypatch.setattr(real_network, "mobilenet_v2", lambda: 1 / 0)
    namespace = {"__name__": "notebook"}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), namespace)
    assert "feature cosine" not in printed.getvalue()
    for module in (real_bits, equalizing):
        assert "python lab.py models" in repr(module.explorer())


def test_the_cosines_that_the_notebook_prints_do_not_hang_on_a_rounding():
    for name in PICTURES:
        for found in full_size(name).values():
            assert abs((100 * found) % 1 - 0.5) > 0.02, (name, found)


def test_with_activations_in_8_bits_too_equalizing_is_worth_what_the_notebook_says():
    wanted, found = in_float(), {}
    for variant in VARIANTS:
        model, _ = quantize_model(
            network(variant), "static", granularity="tensor", calibration_data=[pictures()]
        )
        found[variant] = cosine(wanted, run(model))
    assert found == pytest.approx({"folded": 0.33, "equalized": 0.95}, abs=0.01)


def test_equalizing_lets_the_largest_value_behind_the_first_layer_grow():
    largest = []
    for variant in VARIANTS:
        with network(variant).stem.relu.register_forward_hook(
            lambda module, given, out: largest.append(out.max().item())
        ):
            run(network(variant))
    assert largest == pytest.approx([2.7, 16.2], abs=0.1)


def test_digits_are_hard_because_their_features_are_noisier_not_because_they_are_small():
    size, noise = {}, {}
    model, _ = quantize_model(network("folded"))
    for name in ("photograph", "digits"):
        images = full_size_pictures(name)
        wanted = run(network("folded"), images)
        size[name] = wanted.norm(dim=1).mean().item()
        noise[name] = (run(model, images) - wanted).norm(dim=1).mean().item()
    assert size["digits"] == pytest.approx(size["photograph"], rel=0.1)
    assert 2 < noise["digits"] / noise["photograph"] < 2.4


def test_the_small_group_and_the_wide_channel_read_equally_well():
    pairs = list(zip(measure(4, "channel").correct, measure(2, "group").correct, strict=True))
    assert not Comparison.of(pairs.count((True, False)), pairs.count((False, True)), 1000).resolved
