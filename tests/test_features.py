"""What is known of a model before it is planned: against closed forms and torch's own counter."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from labkit.divergence import MinusDivergence
from labkit.features import encode_model
from labkit.layer_times import LayerTimes, kernel_of, time_layers
from labkit.macs import count_macs
from labkit.quantize import quantize_model
from labkit.vla.policy import Policy
from labkit.zoo import mnist_cnn, mnist_mlp

POLICY_EXAMPLE = (torch.zeros(2, 3, 64, 64), torch.zeros(2, 10, dtype=torch.int64))


def flops(model, *inputs):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(*inputs)
    return counter


@pytest.mark.parametrize(
    ("layer", "x", "macs"),
    [
        (nn.Linear(6, 5), torch.zeros(3, 6), 3 * 5 * 6),
        (nn.Linear(6, 5), torch.zeros(2, 7, 6), 2 * 7 * 5 * 6),
        (nn.Conv2d(3, 8, 3, padding=1), torch.zeros(2, 3, 10, 10), 2 * 8 * 100 * 3 * 9),
        (nn.Conv2d(4, 8, 3, stride=2), torch.zeros(1, 4, 9, 9), 8 * 16 * 4 * 9),
        (nn.Conv2d(4, 8, 3, groups=4), torch.zeros(1, 4, 5, 5), 8 * 9 * 9),
        (nn.Conv1d(2, 4, 3), torch.zeros(1, 2, 5), 4 * 3 * 2 * 3),
        (nn.Embedding(9, 4), torch.zeros(2, 3, dtype=torch.int64), 0),
    ],
)
def test_macs_of_a_layer_are_those_of_its_closed_form(layer, x, macs):
    assert count_macs(nn.Sequential(layer), x) == {"0": macs}


@pytest.mark.parametrize("make", [mnist_mlp, mnist_cnn])
def test_macs_are_half_of_the_flops_that_torch_counts(make):
    model, x = make(trained=False), torch.zeros(3, 1, 28, 28)
    assert 2 * sum(count_macs(model, x).values()) == flops(model, x).get_total_flops()


def test_macs_of_a_model_of_two_inputs_agree_with_torch_layer_by_layer():
    model = Policy(width=16, language=16, reading=1, films=1).eval()
    counted = flops(model, *POLICY_EXAMPLE).get_flop_counts()
    for name, macs in count_macs(model, POLICY_EXAMPLE).items():
        assert 2 * macs == sum(counted.get(f"Policy.{name}", {}).values()), name


def test_a_layer_used_twice_counts_twice_and_one_not_reached_not_at_all():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.used(self.used(x))

    assert count_macs(Twice(), torch.zeros(1, 4)) == {"used": 32, "idle": 0}


def test_projections_of_attention_are_layers():
    attention = nn.MultiheadAttention(8, 2, batch_first=True)

    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = attention

        def forward(self, x):
            return self.attention(x, x, x)[0]

    assert set(count_macs(Reads(), torch.zeros(1, 3, 8)).values()) == {3 * 8 * 8}


def test_an_example_that_does_not_fit_is_refused_by_its_shape():
    with pytest.raises(ValueError, match=r"\(1, 5\)"):
        count_macs(nn.Sequential(nn.Linear(4, 2)), torch.zeros(1, 5))


def quality(model):
    """Minus the distance of some weights from a fixed point: anything that is a number."""
    return -float(sum(p.abs().sum() for p in model.parameters()))


@pytest.fixture(scope="module")
def features():
    model = Policy(width=8, language=8, reading=1, films=1).eval()
    return model, encode_model(
        model,
        evaluate=lambda m: 0.5,
        example=POLICY_EXAMPLE,
        bits=(4, 8),
        timed=False,
    )


def test_rows_are_the_layers_with_part_kind_and_parameters(features):
    model, table = features
    for name, part, kind, count in zip(
        table.layers, table.parts, table.kinds, table.parameters, strict=True
    ):
        layer = model.get_submodule(name)
        assert part == name.split(".")[0]
        assert kind == type(layer).__name__
        assert count == sum(p.numel() for p in layer.parameters())
    assert set(table.parts) == {"vision", "language", "fusion", "action_head"}


def test_bytes_of_a_choice_are_those_of_the_quantized_model(features):
    model, table = features
    choice = np.arange(len(table.layers)) % 2
    widths = {n: table.bits[c] for n, c in zip(table.layers, choice, strict=True)}
    assert table.bytes_of(choice) == quantize_model(model, bits=widths)[1].quantized_bytes


def test_original_bytes_are_those_of_the_state_dict(features):
    model, table = features
    assert table.original_bytes == sum(
        t.numel() * t.element_size() for t in model.state_dict().values()
    )


def test_what_was_not_timed_is_nan_and_says_so(features):
    _, table = features
    assert math.isnan(table.float_seconds) and math.isnan(table.other_seconds)
    assert "not timed" in str(table)


def test_the_table_is_shown_with_every_layer(features):
    _, table = features
    for shown in (str(table), table._repr_html_()):
        assert all(name in shown for name in table.layers)


def test_every_table_has_a_column_for_each_width_and_names_its_unit(features):
    _, table = features
    what, *others = [part.split("\n") for part in str(table).split("\n\n")[:-1]]
    assert what[0].split()[:2] == ["layer", "kind"] and len(what) == 1 + len(table.layers)
    for lines, unit in zip(others, ("bytes at", "loss at", "µs at"), strict=True):
        assert lines[0].startswith(unit) and "4 bits  " in lines[0] and "8 bits" in lines[0]
        assert [line.split()[0] for line in lines[1:]] == list(table.layers)


def test_a_divergence_gives_the_losses_its_unit():
    net, x = nn.Sequential(nn.Linear(4, 2)), torch.zeros(3, 4)
    given = {"example": x[:1], "bits": (8,), "timed": False}
    finer = encode_model(net, evaluate=quality, proxy=MinusDivergence(net, x), **given)
    assert "loss (nats) at" in str(finer)
    assert "loss at" in str(encode_model(net, evaluate=quality, **given))


def test_losses_come_from_the_proxy_where_there_is_one():
    model, x = nn.Sequential(nn.Linear(8, 4)), torch.randn(20, 8)
    wanted = model(x).detach()

    def proxy(quantized):
        return -float((quantized(x) - wanted).square().mean().detach())

    table = encode_model(
        model, evaluate=lambda m: 0.9, proxy=proxy, example=x, bits=(2, 8), timed=False
    )
    assert table.quality == 0.9
    assert table.loss[0, 0] > table.loss[0, 1] > 0


def test_what_cannot_be_encoded_is_refused():
    net, x = nn.Sequential(nn.Linear(4, 2)), torch.zeros(1, 4)
    with pytest.raises(ValueError, match="evaluate"):
        encode_model(net, evaluate=None, example=x)
    with pytest.raises(ValueError, match="bits"):
        encode_model(net, evaluate=quality, example=x, bits=(9,))
    with pytest.raises(ValueError, match="example"):
        encode_model(net, evaluate=quality, example=torch.zeros(1, 3))


# Times -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "method", "granularity", "kernels"),
    [
        (nn.Linear(64, 8), "weight_only", "channel", [2, 4, 4, 8, 8]),
        (nn.Linear(64, 8), "weight_only", 32, [2, 4, 4, 8, 8]),
        (nn.Linear(64, 8), "weight_only", 8, [32] * 5),
        (nn.Linear(64, 8), "dynamic", "tensor", [8] * 5),
        (nn.Linear(64, 8), "static", 32, [32] * 5),
        (nn.Conv2d(1, 1, 1), "weight_only", "channel", [32] * 5),
        (nn.Conv2d(1, 1, 1), "dynamic", "channel", [8] * 5),
        (nn.Embedding(4, 4), "weight_only", "channel", [8] * 5),
    ],
)
def test_which_kernel_runs_a_layer(layer, method, granularity, kernels):
    found = [kernel_of(layer, width, method, granularity) for width in (2, 3, 4, 6, 8)]
    assert [width for width, _ in found] == kernels
    for bits, (width, source) in zip((2, 3, 4, 6, 8), found, strict=True):
        assert (source == "measured") == (width == bits)


@pytest.fixture(scope="module")
def times():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.convolution = nn.Embedding(9, 64), nn.Conv2d(1, 4, 3)
            self.big, self.again = nn.Linear(512, 512), nn.Linear(512, 512)
            self.last = nn.Linear(64, 4)

        def forward(self, picture, words):
            cells = self.convolution(picture).flatten(1)[:, :512].relu()
            return self.last(self.table(words).mean(1)) + self.again(self.big(cells))[:, :4]

    example = (torch.zeros(1, 1, 24, 24), torch.zeros(1, 5, dtype=torch.int64))
    return time_layers(Two().eval(), example, (3, 4, 8), rounds=5)


def test_every_layer_takes_time_at_every_width(times):
    assert times.seconds.shape == (5, 3) and (times.seconds >= 0).all()
    assert times.floats.sum() > 0 and times.whole > 0 and times.other >= 0


def test_widths_of_one_kernel_take_the_same_time_and_say_so(times):
    big = list(times.seconds[2])
    assert big[0] == big[1]
    assert times.source[2] == ("modelled: stored in 4 bits", "measured", "measured")


def test_what_has_no_kernel_takes_the_time_of_float(times):
    assert set(times.seconds[1]) == {times.floats[1]}
    assert all(source.startswith("modelled") for source in times.source[1])


def test_equal_layers_take_the_same_time(times):
    assert (times.seconds[2] == times.seconds[3]).all()


def test_a_large_layer_takes_longer_than_a_small_one(times):
    assert times.floats[2] > times.floats[4]


def test_the_rest_is_what_the_layers_do_not_take():
    table = np.array([[1.0], [2.0]])
    assert LayerTimes(5.0, table[:, 0], table, (("measured",),) * 2).other == 2.0
    # Noise may make the parts longer than the whole; no time is negative.
    assert LayerTimes(2.0, table[:, 0], table, (("measured",),) * 2).other == 0.0
