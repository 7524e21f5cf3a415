"""The peers of benchmarks/engine_latency.py: other quantizers on the same float model.

Each returns {name: function of the input}; one that is not installed, or cannot do a model, is
reported as skipped, with the reason, and never left out silently.
"""

from __future__ import annotations

import copy
import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from labkit.engine import Engine
from labkit.onnx_export import export_onnx

Runs = dict[str, Callable[[Tensor], object]]


def all_peers(model: nn.Module, calibration: Tensor, threads: int) -> tuple[Runs, list[str]]:
    """Everything that runs here, and a line for everything that does not."""
    runs: Runs = {}
    skipped = []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder, "float.onnx")
        export_onnx(model, calibration[:2], path)
        runs["8 bits · torch dynamic (deprecated)"] = torch_dynamic(model)
        runs["32 bits · ONNX Runtime"] = Engine(path, threads)
        for make in (
            ort_static,
            ort_dynamic,
            ort_4_bits,
            torchao_dynamic,
            torchao_weight_only,
            openvino_8_bits,
            openvino_4_bits,
        ):
            try:
                name, run = make(model, path, calibration, threads)
                run(calibration[:1])
                runs[name] = run
            except Exception as error:  # noqa: BLE001 - a peer that fails must not stop the others
                first = (str(error).strip() or "no message").splitlines()[0]
                skipped.append(f"{make.__name__}: {type(error).__name__}: {first[:150]}")
    return runs, skipped


def torch_dynamic(model: nn.Module) -> Callable:
    return torch.ao.quantization.quantize_dynamic(
        copy.deepcopy(model), {nn.Linear}, dtype=torch.qint8
    )


def ort_static(model, path, calibration, threads):
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.batches = iter(calibration.split(32))

        def get_next(self):
            batch = next(self.batches, None)
            return None if batch is None else {Engine(path).inputs[0]: batch.numpy()}

    out = path.with_name("ort_static.onnx")
    # Per tensor and U8S8: its faster form on this kind of processor.
    quantize_static(
        path, out, Reader(), activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8
    )
    return "8 bits · ONNX Runtime's static", Engine(out, threads)


def ort_dynamic(model, path, calibration, threads):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    out = path.with_name("ort_dynamic.onnx")
    quantize_dynamic(path, out, weight_type=QuantType.QInt8)
    return "8 bits · ONNX Runtime's dynamic", Engine(out, threads)


def ort_4_bits(model, path, calibration, threads):
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    # It knows MatMul only: the float model is written without Gemm.
    file = onnx.load_from_string(export_onnx(_as_matmul(model), calibration[:2]))
    quantizer = MatMulNBitsQuantizer(file, bits=4, block_size=128, accuracy_level=4)
    quantizer.process()
    content = quantizer.model.model.SerializeToString()
    if b"MatMulNBits" not in content:
        raise ValueError("there is no MatMul that it could quantize")
    return "4 bits · ONNX Runtime's MatMulNBits", Engine(content, threads)


class _MatMul(nn.Module):
    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.weight = nn.Parameter(linear.weight.detach().t().contiguous())
        self.bias = linear.bias

    def forward(self, x):
        y = torch.matmul(x, self.weight)
        return y if self.bias is None else y + self.bias


def _as_matmul(model: nn.Module) -> nn.Module:
    model = copy.deepcopy(model)
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear):
            model.set_submodule(name, _MatMul(module))
    return model


def torchao_dynamic(model, path, calibration, threads):
    return "8 bits · torchao dynamic", _torchao(model, "Int8DynamicActivationInt8WeightConfig")


def torchao_weight_only(model, path, calibration, threads):
    return "8 bits · torchao weight-only", _torchao(model, "Int8WeightOnlyConfig")


def _torchao(model: nn.Module, config: str) -> nn.Module:
    # torchao complains about extensions that it does not need here.
    logging.disable(logging.WARNING)
    try:
        import torchao.quantization as ao

        quantized = copy.deepcopy(model)
        ao.quantize_(quantized, getattr(ao, config)())
    finally:
        logging.disable(logging.NOTSET)
    return quantized


def openvino_8_bits(model, path, calibration, threads):
    import nncf
    import openvino

    logging.getLogger("nncf").setLevel(logging.ERROR)
    data = nncf.Dataset(list(calibration.split(1)), lambda x: {0: x.numpy()})
    quantized = nncf.quantize(openvino.convert_model(path), data, subset_size=64)
    return "8 bits · OpenVINO (NNCF)", _openvino(quantized, threads)


def openvino_4_bits(model, path, calibration, threads):
    import nncf
    import openvino

    logging.getLogger("nncf").setLevel(logging.ERROR)
    mode = nncf.CompressWeightsMode.INT4_SYM
    quantized = nncf.compress_weights(
        openvino.convert_model(path), mode=mode, group_size=-1, all_layers=True
    )
    return "4 bits · OpenVINO (NNCF)", _openvino(quantized, threads)


def _openvino(quantized, threads: int) -> Callable[[Tensor], object]:
    import openvino

    # As it is delivered: whether it computes the rest in bfloat16 is its own choice.
    options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
    request = openvino.compile_model(quantized, "CPU", options).create_infer_request()
    return lambda x: request.infer({0: x.numpy()}, share_inputs=True, share_outputs=True)
