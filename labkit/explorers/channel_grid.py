"""One channel of a layer on its grid: the layer's range, the channel's own, or one a group.

A channel is a row of a weight matrix: everything that one neuron multiplies. Channels are sorted by
their largest weight, so that the slider goes from the narrowest to the widest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labkit.affine import QParams, choose_qparams, dequantize, quantize
from labkit.errors import decibels
from labkit.explorers.panel import Panel, bits_slider, choice, int_slider
from labkit.explorers.scene import (
    Axis,
    Band,
    Line,
    Mark,
    Plot,
    Points,
    Readout,
    Rule,
    Scene,
    Stems,
    Steps,
)
from labkit.explorers.weight_choices import GRANULARITIES, GROUP, LAYERS
from labkit.zoo import mnist_mlp

# Of each channel this many weights are drawn: of fc1 those of the middle of the picture.
SHOWN = 128
_FIRST = {"fc1": 336, "fc2": 0, "fc3": 0}
_BINS = 81


@dataclass(frozen=True)
class State:
    """Layer, bits, granularity, and the channel's place from the narrowest (0) to the widest.

    >>> State().layer
    'fc1'
    """

    layer: str = "fc1"
    bits: int = 2
    granularity: str = "tensor"
    channel: int = 0


@dataclass(frozen=True, eq=False)
class Layer:
    """A weight matrix (channels, inputs), its channels sorted by range; (channels,) `ranges`.

    >>> layer("fc3").weight.shape
    torch.Size([10, 128])
    """

    weight: Tensor
    ranges: Tensor

    @property
    def reach(self) -> float:
        """The largest weight of all, as a magnitude."""
        return self.ranges[-1].item()


@dataclass(frozen=True, eq=False)
class Quantized:
    """What a grid made of a layer: codes and values (channels, inputs), scales (channels, parts).

    >>> quantized("fc3", 2, "group").scale.shape
    torch.Size([10, 8])
    """

    qparams: QParams
    codes: Tensor
    values: Tensor
    scale: Tensor


@cache
def layer(name: str) -> Layer:
    """Return a layer of the trained network with its channels in order of their largest weight.

    >>> bool((layer("fc1").ranges.diff() >= 0).all())
    True
    """
    if name not in LAYERS:
        raise ValueError(f"got layer {name!r}; use one of {', '.join(LAYERS)}")
    weight = getattr(mnist_mlp(), name).weight.detach()
    ranges = weight.abs().amax(1)
    order = ranges.argsort(stable=True)
    return Layer(weight[order], ranges[order])


@cache
def quantized(name: str, bits: int, granularity: str) -> Quantized:
    """Return the layer's codes and values on symmetric grids; made once.

    >>> quantized("fc3", 2, "tensor").codes.unique().tolist()
    [-1, 0, 1]
    """
    how = {"tensor": {}, "channel": {"axis": 0}, "group": {"group_size": GROUP}}
    if granularity not in how:
        raise ValueError(f"got granularity {granularity!r}; use one of {', '.join(how)}")
    weight = layer(name).weight
    qparams = choose_qparams(weight, bits, symmetric=True, signed=True, **how[granularity])
    codes = quantize(weight, qparams)
    scale = qparams.scale.reshape(-1, weight.shape[1] // GROUP if granularity == "group" else 1)
    return Quantized(
        qparams, codes, dequantize(codes, qparams), scale.expand(len(weight), scale.shape[1])
    )


def controls() -> dict[str, Any]:
    """One control for each field of the state."""
    return {
        "channel": int_slider(
            "channel", 0, 9, tooltip="From the channel with the smallest range to the widest"
        ),
        "bits": bits_slider(),
        "granularity": choice("one scale", [(w, name) for name, w in GRANULARITIES.items()]),
        "layer": choice("layer", LAYERS),
    }


def limits(state: State) -> dict:
    """A layer has as many channels as it has rows.

    >>> limits(State("fc3"))
    {'channel': {'max': 9}}
    """
    return {"channel": {"max": len(layer(state.layer).ranges) - 1}}


def scene(state: State) -> Scene:
    """Draw the ranges of all channels, and one channel's weights on its grid.

    >>> scene(State("fc3", 2, "channel", 3)).readout("levels in use").value
    '3 of 3'
    """
    now, all_ = quantized(state.layer, state.bits, state.granularity), layer(state.layer)
    row, kept = all_.weight[state.channel], now.values[state.channel]
    codes = now.codes[state.channel]
    scales = now.scale[state.channel]
    used, top = len(codes.unique()), 2 ** (state.bits - 1) - 1
    steps = f"{scales.min():.4f}"
    if len(scales) > 1:
        steps += f"–{scales.max():.4f}"
    return Scene(
        f"{state.layer}: channel {state.channel} (0 is the narrowest of {len(all_.ranges)}), "
        f"{state.bits} bits {GRANULARITIES[state.granularity]}",
        [[_ranges(state), _row(state)], _histogram(state)],
        readouts=[
            Readout("of this channel became 0", _percent(codes == 0), "%", "measured", "error"),
            Readout("levels in use", f"{used} of {2 * top + 1}", "", "measured", "quantized"),
            Readout("step s", steps, "", "computed"),
            Readout("SQNR, channel", _sqnr(row, kept), "dB", "measured"),
            Readout("SQNR, layer", _sqnr(all_.weight, now.values), "dB", "measured"),
        ],
        description=(
            "Left, the largest weight of every channel and the step of its grid; right, the "
            "weights of the chosen channel before and after; below, their histograms and levels."
        ),
    )


def explorer(**fields: Any) -> Panel:
    """Return the live panel; `fields` are those of `State`.

    >>> explorer(layer="fc3", channel=9).state.channel
    9
    """
    return Panel(State(**fields), controls(), scene, limits=limits)


def _percent(mask: Tensor) -> str:
    return f"{100 * mask.double().mean():.1f}"


def _sqnr(x: Tensor, kept: Tensor) -> str:
    noise = (x.double() - kept.double()).square().mean().item()
    return f"{decibels(x.double().square().mean().item(), noise):.1f}"


def _ranges(state: State) -> Plot:
    """The largest weight of each channel, and what its grid does with it."""
    now, all_ = quantized(state.layer, state.bits, state.granularity), layer(state.layer)
    places = np.arange(len(all_.ranges))
    marks: list[Mark] = [
        Line(places, all_.ranges, "float", "max |w|"),
        Line(places, now.scale.mean(1) / 2, "error", "s / 2"),
        Rule(state.channel, "", "quantized", dashed=False),
        Points([state.channel], [all_.ranges[state.channel].item()], "quantized", size=6),
    ]
    x = Axis("channel, by its largest weight", -0.5, len(places) - 0.5)
    return Plot(marks, x, Axis("magnitude", 0, 1.08 * all_.reach), height=235, weight=0.8)


def _window(state: State) -> slice:
    first = _FIRST[state.layer]
    return slice(first, first + SHOWN)


def _row(state: State) -> Plot:
    """Weights of the channel one after another, with the range of the grid around them."""
    now, all_ = quantized(state.layer, state.bits, state.granularity), layer(state.layer)
    window = _window(state)
    row, kept = all_.weight[state.channel, window], now.values[state.channel, window]
    top = 2 ** (state.bits - 1) - 1
    group = torch.arange(window.start, window.stop) // (all_.weight.shape[1] // now.scale.shape[1])
    ends = (now.scale[state.channel][group] * top).tolist()
    edges = np.arange(window.start, window.stop + 1) - 0.5
    inputs = np.arange(window.start, window.stop)
    marks: list[Mark] = []
    if now.scale.shape[1] > 1:
        marks.append(Band(*_group_limits(state), role="quantized"))
    marks += [
        Steps(edges, ends, "range", "ends of the grid", width=1.5),
        Steps(edges, [-end for end in ends], "range", width=1.5),
        Points(inputs, row, "float", "weight", size=2.5),
        Points(inputs, kept, "quantized", "becomes", size=2.5),
    ]
    x = Axis("input of the neuron", edges[0], edges[-1])
    return Plot(marks, x, _values(all_), height=235, weight=1.2)


def _group(state: State) -> int:
    """The group of the drawn weights that holds the largest of them."""
    window = _window(state)
    row = layer(state.layer).weight[state.channel, window]
    return (window.start + int(row.abs().argmax())) // GROUP


def _group_limits(state: State) -> tuple[float, float]:
    return _group(state) * GROUP - 0.5, (_group(state) + 1) * GROUP - 0.5


def _histogram(state: State) -> Plot:
    """Weights of the layer and of the channel, and the levels that the channel may use."""
    now, all_ = quantized(state.layer, state.bits, state.granularity), layer(state.layer)
    edges = np.linspace(-1.08, 1.08, _BINS + 1) * all_.reach
    whole, own = (
        np.histogram(weights.numpy(), edges)[0]
        for weights in (all_.weight, all_.weight[state.channel])
    )
    grouped = now.scale.shape[1] > 1
    scale = now.scale[state.channel, _group(state) if grouped else 0]
    top = 2 ** (state.bits - 1) - 1
    levels = (torch.arange(-top, top + 1) * scale).tolist()
    marks = [
        Steps(edges, whole / whole.max(), "range", "all weights of the layer", fill=True, width=1),
        Steps(edges, own / own.max(), "float", "this channel", width=2),
        Stems(
            levels,
            [0.55] * len(levels),
            "quantized",
            f"levels of {'the marked group' if grouped else 'its grid'}",
            size=max(1.0, 5 - 0.6 * state.bits),
        ),
    ]
    y = Axis("", 0, 1.08, show=False)
    return Plot(marks, _values(all_), y, height=205, grid="none")


def _values(all_: Layer) -> Axis:
    return Axis("weight", -1.08 * all_.reach, 1.08 * all_.reach)
