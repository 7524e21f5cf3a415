"""Real low-bit execution: an ONNX file on ONNX Runtime's integer kernels, beside the simulation."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument, InvalidProtobuf
from torch import Tensor, nn

from labkit.checks import check_whole, describe
from labkit.layers import QuantLayer, QuantLinear
from labkit.onnx_export import export_onnx
from labkit.onnx_visits import entering_codes

# Float sums in another order differ by a few last digits: this much of the largest output.
FLOAT_NOISE = 1e-5
ERRORS_ONLY = 3
# Add and LayerNormalization in one operator: on the CPU it takes five times as long as the two.
SLOWER_FUSIONS = ["SkipLayerNormFusion"]


class Engine:
    """An ONNX model ready to run: called with torch tensors, returns torch tensors.

    model: a path, or the bytes of `labkit.onnx_export.export_onnx`. threads: how many cores one
    call may use. The result is a tensor, or a tuple of them where the model has several outputs.
    at_once: run at most so many samples of a batch together, piece after piece, so that what passes
    between layers stays in cache. Only for a model that looks at each sample by itself; a range
    found at run time is then that of a piece.

    Raises FileNotFoundError for a missing file, ValueError for a file that is no ONNX model, for
    threads or at_once below 1, for inputs of another number, shape or dtype than the model takes,
    and where pieces do not fit the inputs or outputs. Values that are not finite are not noticed:
    integer kernels make some number of them.

    >>> engine = Engine(export_onnx(nn.Flatten(), torch.zeros(1, 2, 2)))
    >>> engine(torch.ones(3, 2, 2)).shape
    torch.Size([3, 4])
    """

    def __init__(
        self, model: Path | str | bytes, threads: int = 1, *, at_once: int | None = None
    ) -> None:
        """Read and optimize the graph."""
        if check_whole("threads", threads) < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        if at_once is not None and check_whole("at_once", at_once) < 1:
            raise ValueError(f"at_once must be at least 1 sample, got {at_once}")
        self.at_once = at_once
        self._session = _session(model, threads)
        self.inputs = tuple(node.name for node in self._session.get_inputs())
        self.outputs = tuple(node.name for node in self._session.get_outputs())

    @classmethod
    def of(
        cls,
        model: nn.Module,
        example: Tensor | tuple[Tensor, ...],
        threads: int = 1,
        *,
        at_once: int | None = None,
        **options,
    ) -> Engine:
        """Export `model` and load it; `example` and `options` as in `export_onnx`, but fused."""
        file = export_onnx(model, example, **{"fused": True, **options})
        return cls(file, threads, at_once=at_once)

    def __call__(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Run the model once."""
        if len(inputs) != len(self.inputs):
            raise ValueError(
                f"the model takes {len(self.inputs)} inputs ({', '.join(self.inputs)}), "
                f"got {len(inputs)}"
            )
        for name, x in zip(self.inputs, inputs, strict=True):
            if not isinstance(x, Tensor):
                raise ValueError(f"the input {name} must be a torch tensor, got {describe(x)}")
        results = self._run(inputs) if self.at_once is None else self._run_in_pieces(inputs)
        return results[0] if len(results) == 1 else results

    def _run(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        feed = {
            name: x.detach().cpu().contiguous().numpy()
            for name, x in zip(self.inputs, inputs, strict=True)
        }
        try:
            return tuple(torch.from_numpy(y) for y in self._session.run(None, feed))
        except InvalidArgument as error:
            given = ", ".join(f"{n} {tuple(x.shape)} {x.dtype}" for n, x in feed.items())
            raise ValueError(f"the inputs do not fit the model, got {given}: {error}") from None

    def _run_in_pieces(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        counts = {x.shape[:1] for x in inputs}
        if len(counts) > 1 or () in counts:
            shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
            raise ValueError(
                f"at_once needs as many samples in every input, got the shapes {shapes}; "
                "an engine without at_once takes them"
            )
        pieces = []
        for piece in zip(*(x.split(self.at_once) for x in inputs), strict=True):
            pieces.append(self._run(piece))
            for y in pieces[-1]:
                if y.shape[:1] != piece[0].shape[:1]:
                    raise ValueError(
                        f"at_once needs outputs with one row a sample, got {tuple(y.shape)} for "
                        f"{len(piece[0])} samples; use an engine without at_once"
                    )
        return tuple(torch.cat(parts) for parts in zip(*pieces, strict=True))


def operators(file: Path | str | bytes, *, optimized: bool = True) -> list[str]:
    """Return the operators of an ONNX model in the order they run.

    As ONNX Runtime runs them after fusing (`optimized`), or as they stand in the file. This is how
    to see whether a model really runs on integers: MatMulIntegerToFloat, QLinearConv, MatMulNBits.
    Raises as `Engine`.

    >>> operators(export_onnx(nn.Linear(4, 2), torch.zeros(1, 4)))
    ['Gemm']
    """
    if not optimized:
        return [node.op_type for node in _parsed(file).graph.node]
    with tempfile.TemporaryDirectory() as folder:
        kept = str(Path(folder) / "optimized.onnx")
        _session(file, 1, kept)
        return [node.op_type for node in onnx.load(kept).graph.node]


@dataclass(frozen=True)
class Agreement:
    """How far real execution and the simulation of the same model agree on one input.

    `outputs` values were compared; `equal` are the same to the last bit; `max_abs` is the largest
    difference and `largest` the largest output of the simulation. `codes` maps each layer whose
    input is quantized to (codes that differ, codes), in the order of execution; none differs by
    more than `largest_step`. `why` explains.

    >>> Agreement(10, 10, 0.0, 1.0, {"fc1": (0, 30)}, 0, "…").exact
    True
    """

    outputs: int
    equal: int
    max_abs: float
    largest: float
    codes: dict[str, tuple[int, int]]
    largest_step: int
    why: str

    @property
    def exact(self) -> bool:
        """Whether every output is the same to the last bit."""
        return self.equal == self.outputs

    def __str__(self) -> str:
        """The numbers, then the reason."""
        differing = sum(d for d, _ in self.codes.values())
        total = sum(n for _, n in self.codes.values())
        codes = f"; {differing:,} of {total:,} activation codes differ" if total else ""
        codes += f", by at most {self.largest_step}" if differing else ""
        return (
            f"{self.equal:,} of {self.outputs:,} outputs equal, largest difference "
            f"{self.max_abs:.2g} of {self.largest:.3g}{codes}. {self.why}"
        )


def compare_with_simulation(
    model: nn.Module, x: Tensor | tuple[Tensor, ...], *, threads: int = 1, accuracy_level: int = 4
) -> Agreement:
    """Run a quantized model both ways on `x` and count what differs: outputs, activation codes.

    `x`: one input, or a tuple of them. Codes are counted where a static layer's input becomes
    integers in the graph. Raises ValueError as `export_onnx` does, and for a model with more than
    one output.

    >>> from labkit.layers import QuantLinear
    >>> from labkit.qparams import choose_qparams
    >>> linear = nn.Linear(32, 4)
    >>> grid = choose_qparams(linear.weight, 4, symmetric=True, signed=True, axis=0)
    >>> compare_with_simulation(QuantLinear.from_float(linear, 4, grid), torch.rand(8, 32)).outputs
    32
    """
    file = export_onnx(model, x, accuracy_level=accuracy_level)
    inputs = x if isinstance(x, tuple) else (x,)
    got = Engine(file, threads)(*inputs)
    if not isinstance(got, Tensor):
        raise ValueError(f"can compare a model with one output, got {len(got)} outputs")
    expected, simulated = _simulate(model, inputs)
    visits = [(name, layer) for name, layer, _ in simulated]
    executed = _executed_codes(file, inputs, visits, threads) if simulated else []
    codes, largest_step = {}, 0
    for (name, _, wanted), found in zip(simulated, executed, strict=True):
        steps = (found.flatten().int() - wanted.flatten().int()).abs()
        before = codes.get(name, (0, 0))
        codes[name] = before[0] + int((steps > 0).sum()), before[1] + steps.numel()
        largest_step = max(largest_step, int(steps.max()))
    difference = (got - expected).abs()
    largest = expected.abs().max().item()
    max_abs = difference.max().item()
    why = _why(model, max_abs / largest if largest else max_abs, accuracy_level)
    equal = int((got == expected).sum())
    return Agreement(got.numel(), equal, max_abs, largest, codes, largest_step, why)


def _why(model: nn.Module, relative: float, accuracy_level: int) -> str:
    """Say where a difference of this size comes from."""
    if relative == 0:
        return "Bit-exact."
    if relative <= FLOAT_NOISE:
        return (
            "Integers are summed exactly and scaled once; the simulation adds rounded floats, and "
            "so differs in the last digits."
        )
    layers = [layer for layer in model.modules() if isinstance(layer, QuantLayer)]
    modes = {layer.input_quantizer.mode for layer in layers if layer.input_quantizer is not None}
    reasons = []
    if "static" in modes:
        reasons.append(
            "a value within float noise of a tie, or a bias rounded to the step of the int32 sums, "
            "lands on the neighbouring code, and the layers after it see another input"
        )
    if "dynamic" in modes:
        reasons.append("ranges are found at run time in float32, in the simulation in float64")
    linear = [layer for layer in layers if isinstance(layer, QuantLinear)]
    if accuracy_level == 4 and any(layer.input_quantizer is None for layer in linear):
        reasons.append(
            "MatMulNBits rounds the float input of a weight-only layer to 8-bit codes in blocks "
            "(accuracy_level=1 does not, and is slower)"
        )
    return "Because " + "; ".join(reasons) + "." if reasons else "Unexplained."


def _simulate(
    model: nn.Module, inputs: tuple[Tensor, ...]
) -> tuple[Tensor, list[tuple[str, QuantLayer, Tensor]]]:
    """Output of the simulation, and the codes that enter each static layer."""
    found: list[tuple[str, QuantLayer, Tensor]] = []
    hooks = []
    modes = [(module, module.training) for module in model.modules()]
    for name, layer in model.named_modules():
        quantizer = layer.input_quantizer if isinstance(layer, QuantLayer) else None
        if quantizer is not None and quantizer.mode == "static":

            def note(layer: QuantLayer, inputs: tuple, name: str = name) -> None:
                found.append((name, layer, layer.input_quantizer.codes(inputs[0])))

            hooks.append(layer.register_forward_pre_hook(note))
    try:
        model.eval()
        with torch.no_grad():
            return model(*inputs), found
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes:
            module.training = training


def _executed_codes(
    file: bytes,
    inputs: tuple[Tensor, ...],
    visits: list[tuple[str, QuantLayer]],
    threads: int,
) -> list[Tensor]:
    """The codes that enter each static layer in the graph, once they are asked for."""
    model = _parsed(file)
    values = entering_codes(model.graph, visits)
    asked = list(dict.fromkeys(values))
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in asked)
    results = Engine(model.SerializeToString(), threads)(*inputs)
    results = (results,) if isinstance(results, Tensor) else results
    given = dict(zip(asked, results, strict=True))
    return [given[value] for value in values]


def _session(
    model: Path | str | bytes, threads: int, optimized: str | None = None
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    if optimized is not None:
        options.optimized_model_filepath = optimized
    source = model if isinstance(model, bytes) else str(_found(model))
    try:
        return onnxruntime.InferenceSession(
            source,
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=SLOWER_FUSIONS,
        )
    except (RuntimeError, InvalidArgument, InvalidProtobuf) as error:
        shown = f"{len(model)} bytes" if isinstance(model, bytes) else model
        raise ValueError(f"{shown}: not an ONNX model that can run here: {error}") from error


def _found(path: Path | str) -> Path:
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no ONNX file at {path}; export_onnx writes one.")
    return Path(path)


def _parsed(file: Path | str | bytes) -> onnx.ModelProto:
    return onnx.load_from_string(file) if isinstance(file, bytes) else onnx.load(_found(file))
