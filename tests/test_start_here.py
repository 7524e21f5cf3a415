"""What notebook 00 promises: the document's knowledge map, and every term in the glossary."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import labkit
from labkit import data, evaluate, packing
from labkit.explorers import fewer_bits, first_look
from labkit.zoo import mnist_mlp

FOLDER = Path(__file__).parent.parent / "notebooks"
# The edges of the document's section 8, as parent: children, by its own letters.
EDGES = {
    "A": "B C D E F AE",
    "B": "G H I J",
    "C": "K L M",
    "D": "N O P",
    "E": "Q R",
    "F": "S T U V",
    "G": "W X",
    "H": "Y Z",
    "I": "AA AB",
    "J": "AC AD",
    "AE": "AF AG AH AI AJ",
}
NODES = """
量化 量化方法 量化精度 量化校准 量化训练 性能评估 权重量化 激活量化 动态量化
静态量化 8位量化 4位量化 混合精度 校准数据 缩放因子 零点 量化感知训练 训练策略
模型大小 推理速度 性能损失 压缩比 量化参数 反量化 激活值量化 激活值反量化 运行时量化
离线量化 VLA技术 模型编码器 限制编码器 需求编码器 融合模块 量化模型
"""
MORE_TERMS = """
校准 校准数据量 量化误差 量化函数 渐进式量化 模型压缩 剪枝 知识蒸馏 低秩分解
推理加速 推理时间 位宽 边缘部署 边缘设备 量化评估 量化优化 量化融合 关键层
多模态融合 多模态理解 智能量化 自然语言交互 精度-性能权衡 性能约束 延迟约束 资源节约
成本降低 设备限制 量化需求 VLA
"""


@pytest.fixture(scope="module")
def cells():
    notebook = json.loads((FOLDER / "00_start_here.ipynb").read_text(encoding="utf-8"))
    return {cell["id"]: "".join(cell["source"]) for cell in notebook["cells"]}


def test_the_knowledge_map_has_every_node_and_edge(cells):
    source = cells["knowledge-map"]
    assert source.count("```mermaid") == 2
    edges = re.findall(r"^ *(\w+)(?:\[[^\]]*\])? --> (\w+)", source, re.MULTILINE)
    expected = [(a, b) for a, children in EDGES.items() for b in children.split()]
    assert sorted(edges) == sorted(expected)
    labels = dict(re.findall(r'(\w+)\["[^"]*<br/>([^"<]+)"\]', source))
    assert len(labels) == 36
    assert set(labels.values()) == set(NODES.split())
    # Every node is either here or planned.
    classes = re.findall(r"class ([\w,]+) (here|later)", source)
    assert {node for names, _ in classes for node in names.split(",")} == set(labels)


def test_every_term_of_the_document_is_in_the_glossary(cells):
    rows = re.findall(r"^\| .*<br>.* \|$", cells["glossary"], re.MULTILINE)
    terms = set(re.split(r"[、（）:()\s|]|<br>", "\n".join(rows)))
    assert [term for term in f"{NODES} {MORE_TERMS}".split() if term not in terms] == []
    for row in rows:
        english, code, meaning, notebook = (cell.strip() for cell in row.strip("|").split("|"))
        assert english, row
        assert code, row
        assert len(meaning) > 10, row
        assert re.fullmatch(r"[\d, ]+(planned)?|–", notebook), row


def test_names_in_the_glossary_exist(cells):
    homes = (labkit, data, evaluate, packing)
    for name in ("quantize", "dequantize", "QParams", "quantization_error", "choose_qparams"):
        assert f"`{name}" in cells["glossary"]
        assert hasattr(labkit, name)
    for name in ("accuracy", "packed_bytes"):
        assert f"`{name}`" in cells["glossary"]
        assert any(hasattr(home, name) for home in homes)


def test_a_notebook_is_planned_exactly_when_it_is_not_there(cells):
    rows = re.findall(r"^\| (.*?) \|", cells["map"].split("For whom?")[0], re.MULTILINE)[1:]
    numbers = [re.search(r"\d\d", row)[0] for row in rows]
    assert numbers == [f"{number:02}" for number in range(15)]
    for number, row in zip(numbers, rows, strict=True):
        assert ("planned" in row) != bool(list(FOLDER.glob(f"{number}_*.ipynb"))), row


def test_the_numbers_in_the_text(cells):
    float_, two, more = (first_look.measure(*at) for at in ((32,), (2,), (2, "channel")))
    assert f"{100 * float_.accuracy.value:.1f} %" in cells["hook-saw"]
    assert f"{two.accuracy.value:.0%}".replace("%", " %") in cells["hook-saw"]
    assert 0.6 < two.answers.count(5) / 1000 < 2 / 3
    saved = float_.nbytes / first_look.measure(3).nbytes
    assert saved > 10
    assert f"{more.nbytes - two.nbytes:,} more bytes" in cells["scales-saw"]
    assert f"{more.accuracy.value:.0%}".replace("%", " %") in cells["scales-saw"]
    ratio = float_.nbytes / first_look.measure(8).nbytes
    assert f"{ratio:.2f} ×" in cells["why"]
    assert f"{ratio:.2f} ×" in cells["recap"]


def test_how_many_codes_are_0_with_a_scale_for_each_neuron(cells):
    net, zeros = mnist_mlp(), []
    for layer in (net.fc1, net.fc2, net.fc3):
        weight = np.abs(layer.weight.detach().double().numpy())
        # At 2 bits the step is a neuron's largest weight; what is below its half becomes 0.
        zeros.append(f"{(weight < weight.max(axis=1, keepdims=True) / 2).mean():.0%}")
    assert zeros == ["90%", "86%", "70%"]
    assert "90 % are still 0" in cells["proof-axis-saw"]
    assert "90 % of the first layer's codes are still 0" in cells["recap"]


def test_the_wall_in_the_photograph(cells):
    pixels = fewer_bits.photograph().double().numpy()
    for bits, said in {3: "3 bits the patch has 2", 5: "5 bits 5", 6: "6 bits 9", 8: "33"}.items():
        codes = np.rint(pixels * (2**bits - 1))
        assert len(np.unique(codes[20:45, 100:128])) == int(said.split()[-1])
        assert said in cells["photo-limit"]
    assert 0 <= pixels.min() <= pixels.max() == 1
    assert 255 * np.abs(codes / 255 - pixels).max() <= 0.5


def test_a_help_line_runs_once_its_comment_sign_is_gone(cells):
    lines = cells["exercise-1-help"].splitlines()
    for number in range(1, len(lines)):
        assert lines[number].startswith("# ")
        opened = [*lines[:number], lines[number][2:], *lines[number + 1 :]]
        compile("\n".join(opened), "cell", "exec")
        assert lines[number][2:].split("(")[0] in cells["imports"]


def test_the_prose_is_spelled_in_one_way(cells):
    assert [name for name, text in cells.items() if re.search("grey", text, re.IGNORECASE)] == []
