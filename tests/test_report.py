"""The report: every byte by formula, and the three ways to read it."""

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from torch import nn

from labkit.evaluate import Accuracy
from labkit.quantize import quantize_model
from labkit.report import size_report, stored_tensors
from labkit.zoo import mnist_cnn, mnist_mlp

X = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def static(**options):
    return quantize_model(mnist_cnn(), "static", calibration_data=[X], **options)


# ---------------------------------------------------------------- the numbers


def test_each_part_of_a_layer_by_formula():
    _, report = static(bits={"conv4": 3}, symmetric=False)
    rows = {row.name: row for row in report.layers}
    conv4 = rows["conv4"]
    assert (conv4.kind, conv4.shape, conv4.bits) == ("QuantConv2d", (64, 32, 3, 3), 3)
    assert conv4.code_bytes == 64 * 32 * 9 * 3 // 8
    # A float32 scale and a zero point of 3 bits a channel.
    assert conv4.scale_bytes == 64 * 4 + 64 * 3 // 8
    # A bias from folding, and the input's scale and zero point.
    assert conv4.other_bytes == 64 * 4 + 8
    assert conv4.original_bytes == 64 * 32 * 9 * 4
    assert conv4.bytes == conv4.code_bytes + conv4.scale_bytes + conv4.other_bytes


def test_a_layer_left_float_counts_whole():
    _, report = static(bits={"conv4": 3})
    fc = next(row for row in report.layers if row.name == "fc")
    assert (fc.kind, fc.bits, fc.code_bytes, fc.scale_bytes) == ("Linear", 32, 0, 0)
    assert fc.bytes == fc.original_bytes == 4 * (10 * 576 + 10)


def test_a_folded_batch_norm_is_shown_with_no_bytes():
    _, report = static()
    row = next(row for row in report.layers if row.name == "bn1")
    # Weight, bias, mean and variance of 16 channels, and an 8-byte counter.
    assert (row.kind, row.bytes, row.original_bytes) == ("BatchNorm2d → Identity", 0, 4 * 64 + 8)


def test_the_rows_add_up():
    for report in (static()[1], static(bits={"fc": 2})[1], quantize_model(mnist_cnn())[1]):
        assert sum(row.bytes for row in report.layers) == report.quantized_bytes
        assert sum(row.original_bytes for row in report.layers) == report.original_bytes
        quantized = [row for row in report.layers if row.kind.startswith("Quant")]
        stored = 8 * sum(row.code_bytes + row.scale_bytes for row in quantized)
        weights = sum(np.prod(row.shape) for row in quantized)
        assert report.bits_per_weight == pytest.approx(stored / weights)


def test_buffers_that_are_not_stored_do_not_count():
    net = nn.Linear(2, 2)
    net.register_buffer("kept", torch.ones(5))
    net.register_buffer("remade", torch.ones(7), persistent=False)
    assert size_report(net, net, method="none", bits=32).quantized_bytes == 4 * (6 + 5)


def test_a_state_that_is_no_tensor_cannot_be_counted():
    class Odd(nn.Linear):
        def get_extra_state(self):
            return {"a": 1}

    with pytest.raises(ValueError, match="_extra_state is a dict"):
        stored_tensors(Odd(2, 2))


# ---------------------------------------------------------------- how it is read

QUALITY = {"quality": Accuracy.of(90, 100), "original_quality": Accuracy.of(95, 100)}


def with_quality():
    values = iter((QUALITY["original_quality"], QUALITY["quality"]))
    return static(bits={"conv4": 3, "fc": 8}, evaluate=lambda _: next(values))[1]


def test_as_a_dict_it_goes_through_json():
    report = with_quality()
    values = json.loads(json.dumps(report.as_dict()))
    assert values["quantized_bytes"] == report.quantized_bytes
    assert values["bits"] == {"conv4": 3, "fc": 8}
    assert values["quality"]["low"] == report.quality.low
    assert [row["bytes"] for row in values["layers"]] == [row.bytes for row in report.layers]
    assert values["layers"][0]["shape"] == [16, 1, 3, 3]


@pytest.mark.parametrize("number", [torch.tensor(0.5), np.float32(0.5), 0.5])
def test_a_quality_may_be_any_number(number):
    _, report = quantize_model(mnist_mlp(), evaluate=lambda _: number)
    assert json.loads(json.dumps(report.as_dict()))["quality"] == 0.5
    assert "quality: 0.5 → 0.5" in str(report)


def test_in_words():
    report = with_quality()
    text = str(report)
    assert repr(report) == text
    assert f"{report.original_bytes:,} → {report.quantized_bytes:,} bytes" in text
    assert f"{report.quality}" in text and f"{report.original_quality}" in text
    lines = text.splitlines()[2:]
    assert len(lines) == len(report.layers)
    for line, row in zip(lines, report.layers, strict=True):
        assert re.search(rf"{row.name} .*{row.original_bytes:,} → +{row.bytes:,} bytes", line)
    assert len({len(line) for line in lines}) == 1


def test_as_a_table_with_a_bar_a_layer():
    report = with_quality()
    html = report._repr_html_()
    root = ElementTree.fromstring(html.replace("<br>", "<br/>"))
    rows = root.findall(".//tr")[1:]
    assert len(rows) == len(report.layers)
    widest = max(row.original_bytes for row in report.layers)
    for tr, row in zip(rows, report.layers, strict=True):
        cells = ["".join(td.itertext()) for td in tr.findall("td")]
        assert cells[0] == row.name and cells[3:5] == [f"{row.original_bytes:,}", f"{row.bytes:,}"]
        before, codes, rest = (float(bar.get("width")) for bar in tr.findall(".//rect"))
        assert before == pytest.approx(220 * row.original_bytes / widest, abs=0.05)
        assert codes + rest == pytest.approx(220 * row.bytes / widest, abs=0.11)
    assert str(report.quality) in "".join(root.itertext())


def test_names_cannot_break_the_table():
    class Tag(nn.Module):
        def forward(self, x):
            return x

    Tag.__name__ = "<b>"
    model = nn.Sequential(nn.Linear(2, 2), Tag())
    model[1].register_buffer("t", torch.ones(1))
    html = quantize_model(model)[1]._repr_html_()
    assert "&lt;b&gt;" in html
    ElementTree.fromstring(html.replace("<br>", "<br/>"))


def test_a_model_that_is_one_layer_has_a_name_in_the_table():
    assert "(the model itself)" in quantize_model(nn.Linear(2, 2))[1]._repr_html_()
