"""Which way to quantize, and what a plan costs beside its layers: measured before planning.

Weights alone become codes where nothing limits the time, as activations in float lose nothing.
Where the time is limited, all ways are timed in one run at the largest width. Only if none of them
is fast enough there, the time of each layer at each width has to be known.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from labkit.features import ModelFeatures
from labkit.layer_times import time_layers
from labkit.verification import FLOAT, check_seconds, file_bytes, time_models
from labkit.workshop import Workshop


def prepare(workshop: Workshop) -> dict[str, Any]:
    """Choose the method of a workshop, and return what `labkit.fusion.fuse` has to know.

    `fixed_bytes`: what a file holds beside the layers. `float_seconds` and `correction`, where the
    time is limited: see there.
    """
    features, limits = workshop.features, workshop.limits
    widest = features.bits.index(max(features.bits))
    asked = limits.requirement.method
    if asked is not None:
        workshop.method = "static" if asked == "qat" and workshop.calibration_data else asked
    known: dict[str, Any] = {}
    if limits.timed:
        names = [asked] if asked else ["weight_only", "dynamic"]
        if not asked and workshop.calibration_data:
            names.append("static")
        made = {}
        for name in names:
            workshop.method = name
            made[name] = workshop.quantize(max(features.bits))
        times = time_models(workshop.model, made, workshop.example)
        fitting = [name for name in names if check_seconds(times, limits, name).sure]
        # The first that is fast enough changes least.
        workshop.method = (fitting or sorted(names, key=lambda name: times[name].median))[0]
        if not fitting and not timed(features):
            features = workshop.features = replace(
                features,
                times=time_layers(
                    workshop.model,
                    workshop.example,
                    features.bits,
                    layers=features.layers,
                    method=workshop.method,
                ),
            )
        if timed(features):
            predicted = features.seconds_of(np.full(len(features.layers), widest))
            known = {
                "float_seconds": times[FLOAT].median,
                "correction": predicted / times[workshop.method].median,
            }
    if limits.bytes is not None:
        # Header, grids of what enters a layer, all that stays float: most at the largest width.
        size = file_bytes(workshop.quantize(max(features.bits)))
        known["fixed_bytes"] = size - int(features.bytes[:, widest].sum())
    return known


def timed(features: ModelFeatures) -> bool:
    """Return whether the features hold the seconds of layers."""
    return math.isfinite(features.float_seconds)
