"""labkit/vla/mixed_bits.py: widths chosen for the bytes of 3 bits, and rounding that is learned."""

import torch

from labkit.data import read_manifest
from labkit.layers import QuantLayer
from labkit.quantize import quantize_model
from labkit.report import size_report
from labkit.vla.batches import calibration_batches
from labkit.vla.mixed_bits import NAME, in_mixed_widths, robot_mixed
from labkit.vla.policy import Policy
from labkit.vla.rollout import held_out, roll_out, success
from labkit.vla.zoo import robot
from labkit.zoo import seeded


def quantized(model):
    return {name: m for name, m in model.named_modules() if isinstance(m, QuantLayer)}


def test_the_bundled_robot_has_the_widths_of_its_entry_and_no_more_bytes_than_3_bits():
    model, widths = robot_mixed(), read_manifest()[NAME]["widths"]
    assert {name: layer.bits for name, layer in quantized(model).items()} == widths
    _, uniform = quantize_model(robot(), bits=3)
    size = size_report(robot(), model, method="weight_only", bits=widths).quantized_bytes
    assert size <= uniform.quantized_bytes


def test_it_plays_nearly_as_well_as_in_float():
    assert success(roll_out(robot_mixed(), held_out(150))).value >= 0.97


def test_its_rounding_was_learned():
    widths = read_manifest()[NAME]["widths"]
    nearest, _ = quantize_model(robot(), bits=widths)
    mine = quantized(robot_mixed())
    moved = [
        not torch.equal(mine[name].packed, layer.packed)
        for name, layer in quantized(nearest).items()
    ]
    assert sum(moved) > len(moved) / 2


def test_learned_rounding_keeps_answers_nearer_to_float_than_the_nearest_codes():
    policy = seeded(lambda: Policy(width=8, language=8, reading=1, films=1))
    widths = dict.fromkeys(quantized(quantize_model(policy, bits=3)[0]), 3)
    ((*inputs,),) = calibration_batches(64)
    with torch.no_grad():
        wanted = policy(*inputs)
        learned = in_mixed_widths(policy, widths, steps=64)(*inputs)
        nearest = quantize_model(policy, bits=widths)[0](*inputs)
    assert (learned - wanted).norm() < (nearest - wanted).norm()
