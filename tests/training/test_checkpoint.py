from __future__ import annotations

import json
import shutil
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from support.training_tiny import TINY

from gluondense import files, get_model
from gluondense.data.preprocessing import Preprocessing
from gluondense.training import checkpoint, fit
from gluondense.training.checkpoint import write

FACTS = {
    "class_names": ["a", "b"],
    "preprocessing": Preprocessing((0.5,), (0.25,), input_size=8),
    "config": TINY.to_dict(),
    "epoch": 1,
    "step": 5,
    "progress": {},
    "metrics": {"test_acc": 0.5},
}


@pytest.fixture
def net():
    net = get_model(TINY.model.name, classes=2, in_channels=1, **TINY.model.args)
    net.initialize()
    return net


@pytest.fixture
def trainer(net):
    return mx.gluon.Trainer(net.collect_params(), "sgd", update_on_kvstore=False)


def test_checkpoint_knows_its_network(tmp_path, net, trainer):
    checkpoint.save(tmp_path / "last", net, trainer, FACTS)
    saved = checkpoint.load(tmp_path / "last")
    assert (saved.model_name, saved.class_names) == ("densenet121", ("a", "b"))
    assert saved.spec["block_config"] == (1, 1)
    assert (saved.mean, saved.std, saved.input_shape) == ((0.5,), (0.25,), (1, 1, 8, 8))
    assert (saved.epoch, saved.step, saved.metrics) == (1, 5, {"test_acc": 0.5})
    assert set(saved.versions) == {"gluondense", "mxnet", "numpy", "python"}
    x = mx.nd.random.normal(shape=(2, 1, 8, 8))
    np.testing.assert_allclose(saved.network()(x).asnumpy(), net(x).asnumpy(), rtol=1e-5, atol=1e-6)


def test_run_folder_means_its_best_else_its_last(tmp_path, net, trainer):
    for place, epoch in (("last", 2), ("best", 1)):
        checkpoint.save(tmp_path / "checkpoints" / place, net, trainer, {**FACTS, "epoch": epoch})
    assert checkpoint.load(tmp_path).epoch == 1
    shutil.rmtree(tmp_path / "checkpoints" / "best")
    assert checkpoint.load(tmp_path).epoch == 2


@pytest.mark.parametrize("kill_at", range(8))
def test_interrupted_write_loses_nothing(tmp_path, net, trainer, monkeypatch, kill_at):
    checkpoint.save(tmp_path / "last", net, trainer, FACTS)
    calls = iter(range(100))

    def dying(function):
        def call(*args, **kwargs):
            if next(calls) == kill_at:
                raise KeyboardInterrupt
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(write, "save_arrays", dying(files.save_arrays))
        patch.setattr(files, "fsync", dying(files.fsync))
        patch.setattr(Path, "rename", dying(Path.rename))
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(tmp_path / "last", net, trainer, {**FACTS, "epoch": 2})
    assert checkpoint.load(tmp_path / "last").epoch == 1
    checkpoint.save(tmp_path / "last", net, trainer, {**FACTS, "epoch": 3})
    assert checkpoint.load(tmp_path / "last").epoch == 3
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_write_without_space_loses_nothing(tmp_path, net, trainer, monkeypatch):
    checkpoint.save(tmp_path / "last", net, trainer, FACTS)

    def full(path, arrays):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(write, "save_arrays", full)
    message = r"last: No space left on device \(the previous one is intact\); free some space"
    with pytest.raises(OSError, match=message):
        checkpoint.save(tmp_path / "last", net, trainer, {**FACTS, "epoch": 2})
    assert checkpoint.load(tmp_path / "last").epoch == 1


def test_without_an_earlier_checkpoint_none_is_said_to_be_intact(
    tmp_path, net, trainer, monkeypatch
):
    def full(path, arrays):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(write, "save_arrays", full)
    with pytest.raises(OSError, match="last: No space left on device; free some space"):
        checkpoint.save(tmp_path / "last", net, trainer, FACTS)


def test_parameters_that_are_not_finite_are_not_saved(tmp_path, net, trainer):
    checkpoint.save(tmp_path / "last", net, trainer, FACTS)
    net.output.bias.set_data(mx.nd.array([np.nan, 0]))
    with pytest.raises(FloatingPointError, match="output_bias is not finite"):
        checkpoint.save(tmp_path / "last", net, trainer, {**FACTS, "epoch": 2})
    assert checkpoint.load(tmp_path / "last").epoch == 1


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"step": "x"}'])
def test_a_damaged_checkpoint_is_replaced_and_not_kept(tmp_path, net, trainer, text):
    checkpoint.save(tmp_path / "last", net, trainer, FACTS, keep=2)
    (tmp_path / "last" / "model.json").write_text(text)
    checkpoint.save(tmp_path / "last", net, trainer, {**FACTS, "epoch": 2}, keep=2)
    assert checkpoint.load(tmp_path / "last").epoch == 2
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_damage_is_named(tmp_path, net, trainer):
    checkpoint.save(tmp_path / "last", net, trainer, FACTS)
    with open(tmp_path / "last" / "model.params", "r+b") as file:
        file.seek(2000)
        file.write(b"x")
    with pytest.raises(ValueError, match=r"model\.params is damaged"):
        checkpoint.load(tmp_path / "last")
    (tmp_path / "last" / "model.params").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.params is missing"):
        checkpoint.load(tmp_path / "last")
    (tmp_path / "last" / "model.json").write_text("{}")
    with pytest.raises(ValueError, match=r"model\.json is not a checkpoint's description"):
        checkpoint.load(tmp_path / "last")


def test_newer_format_is_refused(tmp_path, net, trainer):
    checkpoint.save(tmp_path / "last", net, trainer, FACTS)
    path = tmp_path / "last" / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(ValueError, match="format 99"):
        checkpoint.load(tmp_path / "last")


def test_folder_without_a_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        checkpoint.load(tmp_path)


def test_optimizer_states_come_back(tmp_path):
    fit(TINY.with_fields(epochs=1), tmp_path, progress=False)
    saved = checkpoint.load(tmp_path / "checkpoints" / "last")
    net = saved.network()
    trainer = mx.gluon.Trainer(
        net.collect_params(), "nag", {"momentum": 0.9}, update_on_kvstore=False
    )
    saved.load_states(trainer)
    states = trainer._updaters[0].states
    trained = [p for p in net.collect_params().values() if p.grad_req != "null"]
    assert len(states) == len(trained)
    assert any(np.abs(state.asnumpy()).max() > 0 for state in states.values())
