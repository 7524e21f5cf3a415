"""labkit: the small, readable library behind Quantization Lab.

Its table of contents, in the direction the data flows:

    qparams       choosing scale and zero point
    affine        quantize, dequantize, fake_quantize
    granularity   per tensor, per axis, per group
    errors        rounding and clipping error, SQNR, closed-form predictions
    grids         grids that are not uniform: NF4, small floats, any list of levels
    kmeans        levels that fit the data
    formats       grids and how they are stored, in counted bits per weight
    packing       codes ↔ bytes
    layouts       byte layouts of real files (GGUF)
    data, zoo     real data and really trained models, offline
    train, remake the commands that make them again
    evaluate      quality with its interval
    explorers     state → scene → picture: what the sliders move
    exercises     check, hint, solution, status, reset
    authoring     executes the notebooks and stores still pictures
    launcher      what lab.py does before anything is installed
"""

from labkit.affine import dequantize, fake_quantize, quantize
from labkit.errors import ErrorReport, quantization_error
from labkit.packing import pack, unpack
from labkit.qparams import QParams, choose_qparams

__all__ = [
    "ErrorReport",
    "QParams",
    "choose_qparams",
    "dequantize",
    "fake_quantize",
    "pack",
    "quantization_error",
    "quantize",
    "unpack",
]
