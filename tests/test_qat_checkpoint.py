"""labkit/qat_checkpoint.py: an interruption changes nothing, and only its own training goes on."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from labkit.qat import STEP_RULES, train_quantized
from labkit.qparams import choose_qparams

EPOCHS = 5


def chooser(bits, rule="restricted"):
    return lambda weight: choose_qparams(
        weight, bits, symmetric=True, signed=True, axis=0, scale_rule=rule
    )


def net(seed=0):
    """With something that draws random numbers while it trains."""
    torch.manual_seed(seed)
    layers = nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3)
    return nn.Sequential(*layers)


def shuffled(own_generator=True):
    x = torch.randn(96, 4, generator=torch.Generator().manual_seed(0))
    order = torch.Generator().manual_seed(3) if own_generator else None
    data = TensorDataset(x, x[:, :3].argmax(1))
    return DataLoader(data, batch_size=16, shuffle=True, generator=order)


class Interruption(Exception):
    """The lights went out."""


def train(path=None, *, interrupted_at=None, model=None, loader=None, start_seed=7, **options):
    """Train, or until the middle of an epoch; return the model and what came out."""
    model = net() if model is None else model
    torch.manual_seed(start_seed)

    def after_batch(record):
        if interrupted_at is not None and (record.epoch, record.batch) == interrupted_at:
            raise Interruption

    usual = {
        "choose": {"0": chooser(2), "3": chooser(3)},
        "train_loader": shuffled() if loader is None else loader,
        "num_epochs": EPOCHS,
        "checkpoint": path,
        "after_batch": after_batch,
        "learning_rate": 1e-2,
    }
    return model, train_quantized(model, **(usual | options))


def assert_same(one, other):
    for (name, a), b in zip(
        one[0].state_dict().items(), other[0].state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name
    for grids in ("weight_grids", "input_grids"):
        for name, grid in getattr(one[1], grids).items():
            twin = getattr(other[1], grids)[name]
            assert torch.equal(grid.scale, twin.scale)
            assert torch.equal(grid.zero_point, twin.zero_point)
    assert one[1].history == other[1].history and one[1].ended == other[1].ended


# ---------------------------------------------------------------- the same, bit for bit


@pytest.mark.parametrize("own_generator", [True, False])
@pytest.mark.parametrize("step_rule", STEP_RULES)
def test_interrupted_training_ends_bit_for_bit_where_it_would_have(
    tmp_path, step_rule, own_generator
):
    options = {"step_rule": step_rule, "max_norm": 1.0}
    whole = train(loader=shuffled(own_generator), **options)
    path = tmp_path / "run.safetensors"
    with pytest.raises(Interruption):
        train(path, interrupted_at=(3, 4), loader=shuffled(own_generator), **options)
    # Another process, which knows nothing of the random numbers of the first.
    resumed = train(path, loader=shuffled(own_generator), start_seed=12345, **options)
    assert_same(whole, resumed)


def test_interrupted_twice(tmp_path):
    path = tmp_path / "run.safetensors"
    for moment in ((2, 1), (4, 6)):
        with pytest.raises(Interruption):
            train(path, interrupted_at=moment)
    assert_same(train(), train(path))


def test_a_checkpoint_does_not_change_the_training(tmp_path):
    assert_same(train(), train(tmp_path / "run.safetensors"))


def test_the_best_state_and_its_patience_survive(tmp_path):
    def validate(qualities):
        return lambda model: next(qualities)

    options = {"patience": 2}
    whole = train(validate=validate(iter([0.1, 0.8, 0.3, 0.2])), **options)
    assert whole[1].ended == "early stop"
    path = tmp_path / "run.safetensors"
    with pytest.raises(Interruption):
        train(path, interrupted_at=(4, 2), validate=validate(iter([0.1, 0.8, 0.3])), **options)
    assert_same(whole, train(path, validate=validate(iter([0.2])), **options))


def test_a_training_that_is_finished_is_not_repeated(tmp_path):
    path = tmp_path / "run.safetensors"
    first = train(path)
    batches = []
    again = train(path, after_batch=batches.append)
    assert batches == []
    assert_same(first, again)


def test_a_training_that_was_stopped_goes_on_after_its_last_whole_epoch(tmp_path):
    path, count = tmp_path / "run.safetensors", iter(range(1000))
    _, stopped = train(path, stop=lambda: next(count) == 14)
    assert stopped.ended == "stopped" and len(stopped.history) == 2
    assert_same(train(), train(path))


# ---------------------------------------------------------------- the file


def test_it_is_a_safetensors_file_of_tensors_and_json(tmp_path):
    path = tmp_path / "run.safetensors"
    train(path, step_rule="learned")
    tensors = load_file(path)
    assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())
    with safe_open(path, "pt") as stored:
        facts = json.loads(stored.metadata()["training"])
    assert len(facts["history"]) == EPOCHS
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "no part is left behind"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_epochs": 9}, "num_epochs was 5 and is 9"),
        ({"step_rule": "learned"}, "step_rule was 'range' and is 'learned'"),
        ({"activation_bits": 4}, "activation_bits was 8 and is 4"),
        ({"learning_rate": 0.5}, "learning_rate was 0.01 and is 0.5"),
        ({"max_norm": 2.0}, "max_norm was None and is 2.0"),
        ({"choose": {"0": chooser(2)}}, "layers was"),
        ({"choose": {"0": chooser(4), "3": chooser(3)}}, "start from other numbers"),
        ({"choose": {"0": chooser(2, "full"), "3": chooser(3)}}, "start from other numbers"),
        ({"model": net(seed=1)}, "start from other numbers"),
        ({"loader": [(torch.ones(2, 4), torch.tensor([0, 1]))]}, "loader of 1 random generators"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path, change, words):
    path = tmp_path / "run.safetensors"
    with pytest.raises(Interruption):
        train(path, interrupted_at=(2, 1))
    model = change.pop("model", net())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=words):
        train(path, model=model, **change)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), "nothing is half-changed"
    # What was written is still good for its own training.
    assert_same(train(), train(path))


def test_a_file_that_is_no_checkpoint_is_refused_and_kept(tmp_path):
    path = tmp_path / "run.safetensors"
    save_file({"a": torch.ones(1)}, path)
    content = path.read_bytes()
    with pytest.raises(ValueError, match="not a checkpoint of train_quantized"):
        train(path)
    path.write_bytes(content[:20])
    with pytest.raises(ValueError, match="not a checkpoint of train_quantized"):
        train(path)
    assert path.read_bytes() == content[:20]


def test_a_state_that_is_no_tensor_cannot_be_stored(tmp_path):
    class Odd(nn.Linear):
        def get_extra_state(self):
            return {"a": 1}

        def set_extra_state(self, state):
            pass

    model = nn.Sequential(Odd(4, 3))
    with pytest.raises(ValueError, match="_extra_state is a dict"):
        train(tmp_path / "x", model=model, choose={"0": chooser(2)})
