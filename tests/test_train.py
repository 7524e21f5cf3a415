"""Training: it learns, it is reproducible, and it leaves everything else alone."""

import shutil

import pytest
import torch
from torch import nn

from labkit import data, train, zoo
from labkit.data import DATA_FOLDER, load_mnist, read_manifest, verified
from labkit.evaluate import accuracy


@pytest.fixture(scope="module")
def few():
    """500 training images: enough to learn something in half a second."""
    mnist = load_mnist()
    return mnist._replace(
        train_images=mnist.train_images[:500], train_labels=mnist.train_labels[:500]
    )


def trained(build, few, **options):
    model = build(trained=False)
    losses = train.train(
        model, few.train_images, few.train_labels, **{"epochs": 2, "seed": 1, **options}
    )
    return model, losses


@pytest.mark.parametrize("build", [zoo.mnist_mlp, zoo.mnist_cnn])
def test_two_runs_are_equal_bit_for_bit(build, few):
    (first, losses), (second, again) = trained(build, few), trained(build, few)
    assert losses == again and len(losses) == 2
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_another_seed_gives_another_model(few):
    first, second = trained(zoo.mnist_mlp, few)[0], trained(zoo.mnist_mlp, few, seed=2)[0]
    assert not torch.equal(first.fc1.weight, second.fc1.weight)


def test_it_learns_and_ends_in_eval_mode(few):
    model, losses = trained(zoo.mnist_mlp, few, epochs=4)
    assert losses == sorted(losses, reverse=True)
    assert not any(module.training for module in model.modules())
    assert accuracy(model, few.test_images, few.test_labels).low > 0.7


def test_one_step_is_adams_first_step():
    # Adam's first step moves every weight by learning_rate against the sign of its gradient.
    model = nn.Linear(2, 2, bias=False)
    model.weight.data.zero_()
    train.train(model, torch.ones(1, 2), torch.tensor([0]), epochs=1, learning_rate=0.01)
    assert torch.allclose(model.weight, torch.tensor([[0.01, 0.01], [-0.01, -0.01]]), atol=1e-6)


def test_the_loss_is_the_mean_over_images():
    # Equal scores for ten classes: ln 10, also with an uneven last batch, before any step counts.
    model = nn.Linear(3, 10)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    images, labels = torch.ones(5, 3), torch.arange(5)
    losses = train.train(model, images, labels, epochs=1, learning_rate=1e-12, batch_size=2)
    assert losses[0] == pytest.approx(2.302585, abs=1e-5)


def test_the_global_random_state_and_the_images_are_left_alone(few):
    images, labels = few.train_images.clone(), few.train_labels.clone()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    trained(zoo.mnist_mlp, few, epochs=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(images, few.train_images) and torch.equal(labels, few.train_labels)


def test_progress_is_reported_each_epoch(few):
    seen = []
    losses = trained(
        zoo.mnist_mlp, few, epochs=3, after_epoch=lambda epoch, loss: seen.append((epoch, loss))
    )[1]
    assert seen == list(enumerate(losses, start=1))


@pytest.mark.parametrize(
    "options", [{"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0}, {"learning_rate": -1.0}]
)
def test_senseless_settings_are_refused(few, options):
    with pytest.raises(ValueError, match=r"got epochs=.*needs"):
        trained(zoo.mnist_mlp, few, **options)


def test_images_without_labels_are_refused(few):
    with pytest.raises(ValueError, match="one label for each"):
        train.train(zoo.mnist_mlp(), few.train_images, few.train_labels[:3], epochs=1)
    with pytest.raises(ValueError, match="at least one image"):
        train.train(zoo.mnist_mlp(), few.train_images[:0], few.train_labels[:0], epochs=1)


def test_a_diverging_run_stops_and_says_what_to_do(few):
    with pytest.raises(ValueError, match=r"loss became .* try a learning rate below"):
        trained(zoo.mnist_mlp, few, epochs=3, learning_rate=1e20)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    copy = tmp_path / "data"
    shutil.copytree(DATA_FOLDER, copy, ignore=shutil.ignore_patterns("cache"))
    monkeypatch.setattr(data, "DATA_FOLDER", copy)
    return copy


def test_the_command_replaces_checkpoint_and_entry(folder, monkeypatch, capsys):
    threads = torch.get_num_threads()
    monkeypatch.setitem(train.RECIPES, "mnist_mlp", train.Recipe(epochs=1))
    before = read_manifest()
    try:
        assert train.main(["mnist_mlp"]) == 0
    finally:
        torch.set_num_threads(threads)
    after = read_manifest()
    assert after["mnist_mlp.safetensors"]["sha256"] != before["mnist_mlp.safetensors"]["sha256"]
    assert after["mnist_cnn.safetensors"] == before["mnist_cnn.safetensors"]
    path = verified("mnist_mlp.safetensors")
    assert path.parent == folder and zoo.training_facts(path)["epochs"] == 1
    mnist = load_mnist()
    report = accuracy(zoo.mnist_mlp(), mnist.test_images, mnist.test_labels)
    assert str(report) in capsys.readouterr().out
    assert report.correct == after["mnist_mlp.safetensors"]["test_correct"]


def test_the_same_recipe_writes_the_same_bytes(tmp_path, few):
    for part in ("a", "b"):
        (tmp_path / part).mkdir()
        train.retrain("mnist_mlp", few, tmp_path / part, train.Recipe(epochs=1))
    first, second = ((tmp_path / part / "mnist_mlp.safetensors").read_bytes() for part in "ab")
    assert first == second


def test_a_failed_run_keeps_the_old_checkpoint(folder, monkeypatch, capsys):
    threads = torch.get_num_threads()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setitem(train.RECIPES, "mnist_mlp", train.Recipe(epochs=1, learning_rate=1e20))
    try:
        assert train.main(["mnist_mlp"]) == 1
    finally:
        torch.set_num_threads(threads)
    assert "try a learning rate below" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
