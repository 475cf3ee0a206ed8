"""The loop, the checkpoints, the log and the report take any task."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from mxnet import gluon
from support.training_tiny import TINY

from gluondense.training import checkpoint, fit
from gluondense.training.run_folder import RunFolder
from gluondense.training.tasks import registry
from gluondense.training.tasks.base import Metric, Task


@dataclass(frozen=True)
class Levels:
    predicted: np.ndarray
    true: np.ndarray

    @property
    def arrays(self):
        return self.predicted, self.true


class Brightness(Task):
    """Regression of an image's mean: neither classes nor accuracy."""

    train_metrics = (Metric("train_loss", "loss", "loss", ".4f", False, total="squares"),)
    test_metrics = (
        Metric("test_loss", "loss", format=".4f", higher_is_better=False),
        Metric("test_mae", "MAE", "MAE", ".3f", higher_is_better=False),
    )
    best = test_metrics[1]

    def __init__(self, config, info, devices):
        self.loss = gluon.loss.L2Loss()

    @staticmethod
    def network_fields(config, data):
        return {"classes": 1}

    def targets(self, images, labels, rng, epochs_left):
        return None, images.mean(axis=(1, 2, 3))[:, None] / 255

    def measure(self, loss, output, target):
        return loss.sum()

    def evaluate(self, net, batches, batch_size, devices, to_input):
        pairs = [
            (net(to_input(x, *devices)).asnumpy()[:, 0], x.mean(axis=(1, 2, 3)) / 255)
            for x, _ in batches
        ]
        return Levels(*map(np.concatenate, zip(*pairs)))

    def metrics(self, predictions):
        errors = predictions.predicted - predictions.true
        return {"test_loss": float((errors**2).mean() / 2), "test_mae": float(abs(errors).mean())}


@pytest.fixture
def config(monkeypatch):
    monkeypatch.setitem(registry.TASKS, "brightness", Brightness)
    args = {**TINY.model.args, "dropout": 0.0}
    return TINY.with_fields(task="brightness", model_args=args, epochs=3, lr=0.01)


def test_a_task_of_another_kind_trains_resumes_and_reports(config, tmp_path, capsys):
    fit(config.with_fields(epochs=2), tmp_path, progress=False)
    result = fit(config, tmp_path, resume=True, progress=False)
    folder = RunFolder(tmp_path)
    rows = folder.rows()
    times = ["images_per_s", "epoch_s", "wall_s", "cpu_s"]
    metrics = ["train_loss", "test_loss", "test_mae"]
    assert list(rows[0]) == ["epoch", "step", "lr", *metrics, *times]
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    best = min(rows, key=lambda row: row["test_mae"])
    assert result.best_epoch == best["epoch"] == checkpoint.load(folder.best).epoch
    assert result.best["test_mae"] == pytest.approx(best["test_mae"])
    assert result.test_accuracy is None
    assert set(checkpoint.load(folder.last).progress) > {"batch", "squares", "images"}
    assert f"MAE {best['test_mae']:.3f} (best)" in capsys.readouterr().out
    page = folder.report.read_text(encoding="utf-8")
    assert f"<b>{best['test_mae']:.3f}</b><span>best test MAE" in page
    assert "accuracy" not in page[page.index("<body>") :]


def test_a_run_does_not_change_its_task(config, tmp_path):
    fit(config.with_fields(epochs=1), tmp_path, progress=False)
    with pytest.raises(ValueError, match="holds a run with `task` 'brightness'"):
        fit(config.with_fields(task="classification"), tmp_path, resume=True)


def test_an_unknown_task_is_named(tmp_path):
    with pytest.raises(ValueError, match="unknown task 'clasification'; did you mean 'classif"):
        fit(TINY.with_fields(task="clasification"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
