"""The document's model of ten million parameters takes the bytes that the document claims."""

import pytest

from labkit.files import header_bytes, save
from labkit.quantize import quantize_model
from labkit.report import Report
from labkit.zoo_large import ten_million

EXAMPLE_2 = {"fc1": 8, "fc2": 4, "fc3": 4, "fc4": 8}


@pytest.fixture(scope="module")
def model():
    return ten_million(trained=False)


def on_disk(model, folder, bits) -> tuple[int, int, Report]:
    """Bytes of the file, bytes of its header, and the report."""
    quantized, report = quantize_model(model, bits=bits)
    path = folder / "model.safetensors"
    save(quantized, path)
    return path.stat().st_size, header_bytes(path), report


@pytest.mark.parametrize(
    ("bits", "claimed"), [(8, 10_000_000), (4, 5_000_000), (EXAMPLE_2, 6_000_000)]
)
def test_the_file_is_within_2_percent_of_the_documents_claim(model, tmp_path, bits, claimed):
    size, _, _ = on_disk(model, tmp_path, bits)
    assert abs(size - claimed) < 0.02 * claimed


def test_the_file_is_the_reported_bytes_and_a_header(model, tmp_path):
    size, header, report = on_disk(model, tmp_path, EXAMPLE_2)
    assert size == report.quantized_bytes + header
    assert header < 4096


def test_example_2_keeps_a_fifth_of_the_weights_at_8_bits(model):
    weights = {name: getattr(model, name).weight.numel() for name in EXAMPLE_2}
    critical = sum(weights[name] for name, bits in EXAMPLE_2.items() if bits == 8)
    assert round(critical / sum(weights.values()), 2) == 0.20


def test_scales_and_biases_are_all_that_comes_on_top(model, tmp_path):
    _, _, report = on_disk(model, tmp_path, 4)
    weights = sum(p.numel() for p in model.parameters() if p.ndim == 2)
    outputs = 2560 + 1792 + 1888 + 10
    assert report.quantized_bytes == weights // 2 + outputs * 4 + outputs * 4
