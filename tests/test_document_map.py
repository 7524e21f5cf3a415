"""The table from the document to labkit: every name is there, and its examples run."""

import importlib
import re
from pathlib import Path

import pytest
import torch

import labkit
from labkit.data import load_mnist
from labkit.zoo import mnist_mlp

MAP = Path(labkit.__file__).parent / "DOCUMENT_MAP.md"
TEXT = MAP.read_text(encoding="utf-8")
ENGLISH, CHINESE = TEXT.split("# 从文档到 labkit\n")
NAMES = sorted(set(re.findall(r"labkit(?:\.\w+)+", TEXT)))
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
MODULES = [
    "量化方法",
    "权重量化",
    "激活量化",
    "动态量化",
    "静态量化",
    "量化校准",
    "量化训练",
    "性能评估",
]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_in_the_table_exists(name):
    module, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("text", [ENGLISH, CHINESE], ids=["English", "Chinese"])
def test_each_of_the_eight_modules_has_its_row(text):
    rows = re.findall(r"^\| (\d) ([^|]*)\|([^|]*)\|", text, re.MULTILINE)
    assert [number for number, _, _ in rows] == [str(n) for n in range(1, 9)]
    for wanted, (_, title, places) in zip(MODULES, rows, strict=True):
        assert wanted in title and "`labkit." in places


def test_both_languages_name_the_same_places():
    table = [set(re.findall(r"labkit\.\w+\.\w+", part)) for part in (ENGLISH, CHINESE)]
    assert table[1] <= table[0]
    assert table[0] - table[1] <= {"labkit.zoo.mnist_mlp"}


@pytest.mark.parametrize("index", range(3), ids=["static", "dynamic", "qat"])
def test_the_three_lines_run(index, capsys):
    mnist = load_mnist()
    images, labels = mnist.train_images[:100], mnist.train_labels[:100]
    variables = {
        "model": mnist_mlp(),
        "batches": [images],
        "loader": [(images, labels)],
        "quantize_model": labkit.quantize_model,
    }
    exec(EXAMPLES[index], variables)
    report = variables["report"]
    assert report.method == ("static", "dynamic", "qat")[index] and report.bits == 8
    assert report.original_bytes == 4 * 235_146
    assert report.compression_ratio == pytest.approx(4, rel=0.02)
    if index == 0:
        sizes = f"{report.original_bytes} {report.quantized_bytes} {report.compression_ratio}"
        assert capsys.readouterr().out.strip() == sizes
    assert variables["quantized"](torch.zeros(1, 784)).shape == (1, 10)


def test_the_documents_keys_have_their_counterparts():
    _, report = labkit.quantize_model(mnist_mlp())
    for field in re.findall(r"`report\.(\w+)`", ENGLISH):
        assert field in report.as_dict()


def test_dynamic_takes_the_calibration_data_that_the_document_gives_it():
    images = load_mnist().train_images[:10]
    _, report = labkit.quantize_model(mnist_mlp(), method="dynamic", calibration_data=[images])
    assert report.method == "dynamic"
