"""What is computed once, ahead, and what at every call: one real layer, three methods.

The layer is fc2 of the trained 784-256-128-10 network; its input is what one test image makes of
it, brighter or darker. Static ranges were calibrated on images of ordinary brightness.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from labkit.data import load_mnist
from labkit.errors import decibels
from labkit.explorers.drawing.text import short
from labkit.explorers.panel import Panel, choice, float_slider, int_slider
from labkit.explorers.scene import Axis, Band, Cells, Mark, Plot, Readout, Rule, Scene, Steps, Text
from labkit.quantize import quantize_model
from labkit.zoo import mnist_mlp

METHODS = {"weight_only": "weight-only", "dynamic": "dynamic", "static": "static"}
LAYER = "fc2"
CALIBRATION = 200
MOST_IMAGES = 20
REACH = 20.0
_BINS = 100


@dataclass(frozen=True)
class State:
    """Which method, which test image (0 to 19), how many times brighter it is.

    >>> State().method
    'static'
    """

    method: str = "static"
    image: int = 0
    brightness: float = 1.0


@dataclass(frozen=True)
class Call:
    """One call of the layer: its input and output in float, and what the method makes of them.

    `low` and `high` are the ends of the input's grid, None where the input stays float.

    >>> call(State()).codes_used > 50
    True
    """

    x: Tensor
    y: Tensor
    y_quantized: Tensor
    scale: float | None
    zero_point: int | None
    high: float | None
    codes_used: int
    clipped: int

    @property
    def sqnr_db(self) -> float:
        """Signal-to-noise ratio of the layer's output, in dB."""
        y, error = self.y.double(), (self.y_quantized - self.y).double()
        return decibels(y.square().mean().item(), error.square().mean().item())


@cache
def layers() -> dict[str, nn.Module]:
    """The layer in float and as each method stores it, by method.

    >>> list(layers())
    ['float', 'weight_only', 'dynamic', 'static']
    """
    net, images = mnist_mlp(), load_mnist().train_images[:CALIBRATION]
    found: dict[str, nn.Module] = {"float": net.get_submodule(LAYER)}
    for method in METHODS:
        data = images if method == "static" else None
        quantized, _ = quantize_model(net, method, calibration_data=data)
        found[method] = quantized.get_submodule(LAYER)
    return found


@cache
def layer_input(image: int, brightness: float) -> Tensor:
    """What enters the layer: 256 values at or above 0.

    >>> layer_input(0, 1.0).shape
    torch.Size([1, 256])
    """
    net = mnist_mlp()
    with torch.no_grad():
        return net.relu1(net.fc1(brightness * _images()[image : image + 1].flatten(1)))


@cache
def call(state: State) -> Call:
    """Run the layer once, in float and quantized.

    >>> call(State(brightness=3.0)).clipped > 0
    True
    """
    if state.method not in METHODS:
        raise ValueError(f"got method {state.method!r}; use one of {', '.join(METHODS)}")
    x = layer_input(state.image, state.brightness)
    layer = layers()[state.method]
    with torch.no_grad():
        y, quantized = layers()["float"](x), layer(x)
    if layer.input_quantizer is None:
        return Call(x, y, quantized, None, None, None, 0, 0)
    grid = layer.input_quantizer.params_for(x)
    scale, zero_point = grid.scale.item(), int(grid.zero_point)
    high = (grid.quant_max - zero_point) * scale
    codes = layer.input_quantizer.codes(x)
    # Half a step beyond the last level still rounds to it.
    clipped = int((x > high + scale / 2).sum())
    return Call(x, y, quantized, scale, zero_point, high, len(codes.unique()), clipped)


def controls() -> dict:
    """Return the panel's controls.

    >>> list(controls())
    ['method', 'image', 'brightness']
    """
    return {
        "method": choice("method", [(words, name) for name, words in METHODS.items()]),
        "image": int_slider("test image", 0, MOST_IMAGES - 1, tooltip="Which digit is read"),
        "brightness": float_slider(
            "brightness", 0.1, 3.0, step=0.1, shown=".1f", tooltip="The image times this number"
        ),
    }


def scene(state: State) -> Scene:
    """Draw the table of what happens when, and the input on its grid.

    >>> scene(State("dynamic")).readout("values clipped").value
    0
    """
    now = call(state)
    quantized = now.scale is not None
    readouts = [Readout("signal to noise of the output", f"{now.sqnr_db:.1f}", "dB", "measured")]
    if quantized:
        readouts += [
            Readout("codes in use", now.codes_used, "of 256", "measured", "quantized"),
            Readout("values clipped", now.clipped, f"of {now.x.numel()}", "measured", "error"),
        ]
    readouts.append(
        Readout("step of the input", now.scale, "", "computed", digits=3)
        if quantized
        else Readout("input", "stays float", "", "chosen", "float")
    )
    words = METHODS[state.method]
    return Scene(
        f"Layer {LAYER} (256 → 128), {words}: what is computed when",
        [_table(state, now), _values(now)],
        readouts=readouts,
        formulas=[_formula(state.method)],
        description="A table of steps, ahead or at every call, and the input's values on its grid.",
    )


def explorer(**fields) -> Panel:
    """Return the live panel; fields of `State` set where it starts.

    >>> explorer(method="dynamic").state.method
    'dynamic'
    """
    return Panel(State(**fields), controls(), scene)


@cache
def _images() -> Tensor:
    return load_mnist().test_images[:MOST_IMAGES]


def _table(state: State, now: Call) -> Plot:
    """Five steps, each either ahead or at every call."""
    layer = layers()[state.method]
    count, outputs = layer.codes.numel(), layer.weight_shape[0]
    stored = f"{layer.packed.numel():,} codes of 8 bits, {outputs} scales"
    grid = "" if now.scale is None else f"s = {short(now.scale, 3)}, z = {now.zero_point}"
    low_high = "" if now.high is None else f"0 to {short(now.high, 3)}"
    none = ("", "not needed: the input stays float")
    rows = {
        "weight_only": (none, ("", "none: 256 floats go in"), _products(count, "float")),
        "dynamic": (
            ("", f"this input: {low_high}; {grid}"),
            ("", "x / s, round, + z: 256 codes"),
            _products(count, "integer"),
        ),
        "static": (
            (f"{CALIBRATION} images: {low_high}; {grid}", ""),
            ("", "x / s, round, + z: 256 codes"),
            _products(count, "integer"),
        ),
    }[state.method]
    last = f"× s_w{'' if now.scale is None else ' × s_x'}, + bias: {outputs} floats"
    table = (
        ("weights → codes", (stored, "")),
        ("range of the input", rows[0]),
        ("input → codes", rows[1]),
        ("multiply and add", rows[2]),
        ("back to float", ("", last)),
    )
    marks: list[Mark] = [
        Text(3.9, len(table) + 0.15, "once, ahead", "muted", bold=True),
        Text(7.95, len(table) + 0.15, "at every call", "muted", bold=True),
    ]
    for number, (name, cells) in enumerate(table):
        y = len(table) - 1 - number
        marks.append(Text(1.8, y + 0.45, name, "ink", "end", bold=True, dy=5))
        for x, words in zip((1.9, 5.95), cells, strict=True):
            role = _role(words)
            marks.append(Cells([x], [y], [words or "–"], role, width=4.0, height=0.9, size=12.5))
    ends = Axis("", 0, 10, show=False), Axis("", 0, len(table) + 0.6, show=False)
    return Plot(marks, *ends, height=215, grid="none")


def _products(count: int, kind: str) -> tuple[str, str]:
    if kind == "float":
        return "", f"{count:,} float products, float sums"
    return "", f"{count:,} integer products, int32 sums"


def _role(words: str) -> str:
    if not words or words.startswith(("none", "not needed")):
        return "range"
    return "float" if "float" in words and "codes" not in words else "quantized"


def _values(now: Call) -> Plot:
    """The 256 inputs as a histogram over the grid that they are rounded to."""
    counts = torch.histc(now.x, _BINS, 0, REACH)
    # The first bar holds the zeros of ReLU and would hide all others.
    counts[0] = (now.x[now.x > 0] < REACH / _BINS).sum()
    edges = torch.linspace(0, REACH, _BINS + 1)
    marks: list[Mark] = []
    if now.high is not None:
        marks.append(Band(0, min(now.high, REACH), "grid of 256 codes"))
        marks.append(Rule(min(now.high, REACH), f"ends at {short(now.high, 3)}"))
    marks.append(Steps(edges, counts, "float", "values that enter the layer", fill=True))
    if now.clipped:
        first = int((edges[:-1] < now.high).sum())
        last = int(counts.nonzero().max()) + 1
        marks.append(
            Steps(edges[first : last + 1], counts[first:last], "error", "clipped", fill=True)
        )
    x = Axis("value that enters the layer (zeros not drawn)", 0, REACH)
    return Plot(marks, x, Axis("how many of 256", 0.7, 300, scale="log"), height=215, label_rows=1)


def _formula(method: str) -> str:
    return {
        "weight_only": "y = Σ x · (s_w q_w) + bias: only the bytes that are read become fewer",
        "dynamic": "y = s_x s_w Σ (q_x − z_x) q_w + bias, s_x and z_x found anew at every call",
        "static": "y = s_x s_w Σ (q_x − z_x) q_w + bias, s_x and z_x written into the model",
    }[method]
