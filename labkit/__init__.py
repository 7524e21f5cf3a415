"""labkit: the small, readable library behind Quantization Lab.

Its table of contents, in the direction the data flows:

one tensor
    qparams       choosing scale and zero point
    affine        quantize, dequantize, fake_quantize
    granularity   per tensor, per axis, per group
    errors        rounding and clipping error, SQNR, closed-form predictions
    grids         grids that are not uniform: NF4, small floats, any list of levels
    kmeans        levels that fit the data
    formats       grids and how they are stored, in counted bits per weight
    packing       codes ↔ bytes
    layouts       byte layouts of real files (GGUF)
a whole model
    observers     calibration: which range? (observer, histogram, thresholds)
    layers        per-layer quantizers, weights stored packed (activations, attention)
    quantize      weight-only, dynamic, static, qat (selection, calibration, modules)
    qat           training under quantization (lsq, qat_grids, qat_schedule, qat_checkpoint, …)
    rounding      better codes without training (reconstruction, bias_correction, beside)
    sensitivity   what each layer loses at each width, measured; predicted by hessian
    mixed         which layer gets how many bits (budget, knapsack, near_bound, pareto)
    transform     before quantizing: batch norm folded, channels equalized (dataflow)
    report, files every byte counted; one file, and back (report_html, recipe, recipe_check, atomic)
    integer       integer-only arithmetic (accumulator, fixed_point, requantize, integer_steps, …)
    engine        real low-bit execution, exported to ONNX (onnx_export, onnx_layers, …)
    latency       measured time, as ratios in one run (threads: one for small work)
models, data and what they are worth
    data, zoo     real data and really trained models, offline (zoo_large, real_models, mobilenet)
    train, remake the commands that make them again
    evaluate      quality with its interval
    compare       two models on the same samples
    blame         which layer is at fault
    guide         the document's parameter guide, from measurements
the robot
    vla           its world, teacher and policy; the closed loop (env, demos, policy, rollout, …)
from limits and a wish to a verified model
    constraints   what a device allows (quantities, numerals)
    requirement   what somebody wants, as a dict or in words (sentence, clause, meaning, said, …)
    features      the model's layers in one table (macs, layer_times, engines, divergence)
    fusion        the three become one allocation problem; prediction says what margin it needs
    planner       plan, quantize, measure, verify, escalate, or refuse with offers (verification, …)
what a learner sees
    explorers     state → scene → picture: what the sliders move
    exercises     check, hint, solution, status, reset
    authoring     executes the notebooks and stores still pictures
    launcher      what lab.py does before anything is installed
"""

# The module labkit.quantize and the function of one tensor share a name. A module that is imported
# for the first time takes the name in its package, so it comes first here, and the function last.
from labkit.quantize import quantize_model  # isort: split

from labkit.affine import dequantize, fake_quantize, quantize
from labkit.errors import ErrorReport, quantization_error
from labkit.files import load, save
from labkit.integer import integer_conv2d, integer_linear, quantize_multiplier
from labkit.mixed import allocate_bits, measure_sensitivity, pareto_front
from labkit.observers import (
    EntropyObserver,
    MinMaxObserver,
    MovingAverageObserver,
    MSEObserver,
    PercentileObserver,
)
from labkit.packing import pack, unpack
from labkit.qparams import QParams, choose_qparams
from labkit.report import Report
from labkit.transform import equalize, fold_batch_norm

__all__ = [
    "EntropyObserver",
    "ErrorReport",
    "Infeasible",
    "MSEObserver",
    "MinMaxObserver",
    "MovingAverageObserver",
    "PercentileObserver",
    "Planned",
    "QParams",
    "Report",
    "allocate_bits",
    "choose_qparams",
    "dequantize",
    "equalize",
    "fake_quantize",
    "fold_batch_norm",
    "integer_conv2d",
    "integer_linear",
    "load",
    "measure_sensitivity",
    "pack",
    "pareto_front",
    "plan_quantization",
    "quantization_error",
    "quantize",
    "quantize_model",
    "quantize_multiplier",
    "save",
    "unpack",
]


def __getattr__(name: str) -> object:
    # The planner needs the engine and the solver: as much again to import, and a first picture
    # must not wait for it.
    if name in ("Infeasible", "Planned", "plan_quantization"):
        from labkit import planner

        return getattr(planner, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
