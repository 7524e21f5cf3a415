"""labkit/__init__.py: the names that others build on, whatever was imported before."""

import subprocess
import sys

import pytest

import labkit


@pytest.mark.parametrize("name", labkit.__all__)
def test_a_public_name_is_callable_and_documented(name):
    assert callable(getattr(labkit, name))
    assert getattr(labkit, name).__doc__


@pytest.mark.parametrize(
    "first", ["import labkit.quantize", "from labkit.quantize import quantize_model", "pass"]
)
def test_quantize_is_the_function_although_a_module_has_its_name(first):
    script = (
        f"{first}\n"
        "import torch\n"
        "from labkit.quantize import quantize_model\n"
        "from labkit import QParams, quantize\n"
        "print(quantize(torch.tensor([0.3, 9.0]), QParams(0.5, 2, 0, 3)).tolist())\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout.strip() == "[3, 3]", result.stderr
