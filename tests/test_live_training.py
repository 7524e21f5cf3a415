"""The live training panel: what it draws for every setting, and its thread, started and stopped."""

import math
import threading
import time

import pytest
import torch

from labkit.data import load_mnist
from labkit.evaluate import Accuracy
from labkit.explorers import live_training, training_runs
from labkit.explorers.live_training import TrainingPanel, explorer
from labkit.explorers.panel import sweep
from labkit.explorers.scene import Line, Points, Text
from labkit.explorers.training_runs import EPOCHS, PARTS, Parts, Run, Setting, train, train_control
from labkit.explorers.training_view import BITS, CONTROL, Runs, controls, scene, stretched
from labkit.layers import QuantLayer

SETTINGS = [
    Setting(bits, granularity, rule)
    for bits in BITS
    for granularity in ("tensor", "channel")
    for rule in ("range", "learned")
]


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    """Train on 256 images: an epoch is four batches."""
    mnist = load_mnist()
    monkeypatch.setattr(
        training_runs, "_parts", lambda: Parts(mnist.train_images[:256], mnist.train_labels[:256])
    )


@pytest.fixture
def gate(monkeypatch):
    """Let a training go on only batch by batch, as the test opens the gate."""
    permits, real = threading.Semaphore(0), training_runs.train

    def train_slowly(setting, *, tell, stop):
        def told(run):
            tell(run)
            while not permits.acquire(timeout=0.01):
                if stop():
                    return

        return real(setting, tell=told, stop=stop)

    monkeypatch.setattr(live_training, "train", train_slowly)
    monkeypatch.setattr(live_training, "REPAINT", 0.0)
    return permits


def until(true, seconds=20.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def run_of(setting, share, ended="finished"):
    points = tuple((i / PARTS, Accuracy.of(round(1000 * share), 1000)) for i in range(1, 17))
    losses = tuple((i / 16, 1 / i) for i in range(1, 65))
    return Run(setting, points, losses, ended)


# --- the pictures -------------------------------------------------------------------------------


def test_every_setting_shows_its_own_run_and_the_control():
    done = {s: run_of(s, 0.5 + i / 40) for i, s in enumerate(SETTINGS)}
    runs = Runs(done, run_of(None, 0.94))
    for state, picture in sweep(lambda s: scene(s, runs), Setting(), controls()):
        share = 0.5 + SETTINGS.index(state) / 40
        assert picture.readout("after training").value == f"{100 * round(share, 3):.1f} %"
        assert picture.readout("float, trained as long").value == "94.0 %"
        curve = next(m for m in picture.marks(Line) if m.label == "this setting")
        assert curve.y[-1] == pytest.approx(-math.log10(1 - round(share, 3)))
        assert curve.x[-1] == EPOCHS
        rows = [m for m in picture.rows[0][1].marks if isinstance(m, Points) and not m.hollow]
        assert len(rows) == len(SETTINGS)
        (arrow,) = (m for m in picture.rows[0][1].marks if isinstance(m, Text))
        assert arrow.y == len(SETTINGS) - 1 - SETTINGS.index(state)


def test_without_a_run_it_says_what_to_press():
    for state, picture in sweep(scene, Setting(), controls()):
        assert picture.readout("after training").value == "press Start"
        assert picture.readout("float, trained as long").value == "not yet"
        mnist, bits = load_mnist(), state.bits
        shown = float(picture.readout("only rounded").value.removesuffix(" %"))
        assert shown == pytest.approx(
            100 * rounded_by_hand(mnist, bits, state.granularity), abs=0.31
        )


def rounded_by_hand(mnist, bits, granularity):
    x, net = mnist.test_images.flatten(1), training_runs.mnist_mlp()
    for name in ("fc1", "fc2", "fc3"):
        layer = net.get_submodule(name)
        most, weight = 2 ** (bits - 1) - 1, layer.weight.detach()
        amax = (
            weight.abs().amax(1, keepdim=True) if granularity == "channel" else weight.abs().max()
        )
        x = x @ ((weight / (amax / most)).round() * (amax / most)).T + layer.bias.detach()
        x = x.relu() if name != "fc3" else x
    return (x.argmax(1) == mnist.test_labels).double().mean().item()


def test_a_share_is_placed_where_its_tick_is():
    assert [stretched(s) for s in (0.0, 0.9, 0.99)] == pytest.approx([0.0, 1.0, 2.0])
    assert stretched(1.0) == pytest.approx(3.0)


# --- one training -------------------------------------------------------------------------------


def test_four_parts_hold_every_image_once_and_the_next_four_in_another_order():
    parts = Parts(torch.arange(250), torch.arange(250))
    epochs = [torch.cat([x for _ in range(PARTS) for x, _ in parts]) for _ in range(2)]
    assert all(epoch.sort().values.tolist() == list(range(250)) for epoch in epochs)
    assert not torch.equal(*epochs)
    again = Parts(torch.arange(250), torch.arange(250))
    assert torch.equal(epochs[0], torch.cat([x for _ in range(PARTS) for x, _ in again]))


@pytest.mark.parametrize("setting", [Setting(), Setting(2, "channel", "learned")], ids=str)
def test_a_training_is_watched_to_its_end_and_what_it_measured_is_its_network(setting):
    seen = []
    quantized, run = train(setting, tell=seen.append)
    assert run.ended == "finished" and len(run.points) == EPOCHS * PARTS
    assert [len(r.losses) for r in seen] == list(range(1, EPOCHS * PARTS + 1))
    layers = [m for m in quantized.modules() if isinstance(m, QuantLayer)]
    assert [m.codes.unique().numel() <= 4 for m in layers] == [True] * 3
    assert run.quality == training_runs.quality_of(quantized)


def test_stopped_after_three_batches_it_is_measured_once_more():
    seen = []
    quantized, run = train(Setting(3), tell=seen.append, stop=lambda: len(seen) >= 3)
    assert run.ended == "stopped" and run.epochs == pytest.approx(3 / PARTS)
    assert run.points[-1] == (run.epochs, training_runs.quality_of(quantized))


def test_the_control_learns_from_as_many_batches():
    _, run = train(Setting(4))
    control = train_control()
    assert control.setting is None
    assert [at for at, _ in control.losses] == [at for at, _ in run.losses]


# --- the panel and its thread -------------------------------------------------------------------


def test_at_rest_it_trains_nothing_and_its_words_hold_no_trained_number():
    panel = explorer(done=[Setting()])
    assert not panel.training and panel.status == "not training"
    assert panel.runs.done.keys() == {Setting()} and panel.runs.control.ended == "finished"
    assert "only rounded" in panel.words()
    assert panel.scene.readout("after training").value not in panel.words()
    assert "after training" not in panel.words()


def test_the_curve_grows_while_it_trains_and_stop_leaves_a_usable_network(gate):
    panel = explorer()
    assert panel.start()
    for batches in range(1, 10):
        before = panel.svg
        gate.release()
        until(lambda so_far=before: panel.svg != so_far)
        assert batches <= len(panel.runs.done[Setting()].losses) <= batches + 1
    assert panel.training and panel.runs.now == Setting()
    assert 0 < panel._bar.value < 1
    panel.stop()
    panel.wait(20)
    run = panel.runs.done[Setting()]
    assert not panel.training and not panel.error and run.ended == "stopped"
    assert panel.status.startswith("stopped after ")
    assert training_runs.quality_of(panel.quantized) == run.quality
    assert panel.runs.control is None, "a stopped training starts no control"


def test_a_second_start_is_refused_and_the_first_goes_on(gate):
    panel = explorer()
    panel.start()
    until(lambda: panel.runs.now)
    assert panel._start.disabled and not panel._stop.disabled
    first = panel._thread
    assert panel.start() is False and panel._thread is first and first.is_alive()
    panel.stop()
    panel.wait(20)
    assert not panel._start.disabled and panel._stop.disabled
    gate.release(1000)
    assert panel.start()
    panel.wait(20)
    assert panel.runs.done[Setting()].ended == "finished"


def test_sliders_move_while_it_trains(gate):
    panel = explorer()
    panel.start()
    gate.release(5)
    until(lambda: panel.runs.done)
    panel.set(bits=4, step_rule="learned")
    assert panel.scene.readout("after training").value == "press Start" and not panel.error
    panel.stop()
    panel.wait(20)
    assert panel.runs.done.keys() == {Setting()}


def test_another_panel_takes_over(gate):
    first, second = explorer(), explorer(bits=3)
    first.start()
    until(lambda: first.runs.now)
    gate.release(1000)
    assert second.start()
    assert not first.training
    second.wait(20)
    assert second.runs.done[Setting(3)].ended == "finished"


def test_the_control_follows_the_first_training_and_is_trained_once(monkeypatch):
    count = []
    real = live_training.train_control
    monkeypatch.setattr(
        live_training, "train_control", lambda **options: count.append(1) or real(**options)
    )
    panel = explorer()
    for rule in ("range", "learned"):
        panel.set(step_rule=rule)
        panel.start()
        panel.wait(30)
    assert panel.runs.control.ended == "finished" and len(count) == 1 and len(panel.runs.done) == 2


def test_a_control_that_was_stopped_is_no_control(monkeypatch):
    panel = explorer()
    real = live_training.train_control

    def stopped(*, tell, stop):
        panel.stop()
        return real(tell=tell, stop=stop)

    monkeypatch.setattr(live_training, "train_control", stopped)
    panel.start()
    panel.wait(30)
    assert panel.runs.control is None and panel.runs.now != CONTROL
    assert panel.runs.done[Setting()].ended == "finished" and not panel.error


def test_an_error_in_the_thread_shows_in_red_and_the_next_training_clears_it(monkeypatch):
    panel, real = explorer(), live_training.train

    def fails(setting, **options):
        raise ValueError("the loss became nan; try a learning rate below 0.001")

    monkeypatch.setattr(live_training, "train", fails)
    panel.start()
    panel.wait(20)
    assert panel.error == "the loss became nan; try a learning rate below 0.001"
    assert 'role="alert"' in panel._alert.value
    assert panel.status == "failed" and not panel._start.disabled
    monkeypatch.setattr(live_training, "train", real)
    panel.start()
    panel.wait(30)
    assert not panel.error and panel.runs.done[Setting()].ended == "finished"


def test_the_buttons_do_what_they_say(gate):
    panel = explorer()
    panel._start.click()
    until(lambda: panel.training)
    panel._stop.click()
    panel.wait(20)
    assert not panel.training


def test_torch_computes_with_as_many_threads_as_before():
    before = torch.get_num_threads()
    panel = TrainingPanel(Setting())
    panel.start()
    panel.wait(30)
    assert torch.get_num_threads() == before
