"""A run folder of gluondense 0.1.0, stopped within its first epoch, is read and continued.

Made by the commit b7bc92e: three of five steps, with mixup and a moving average of the weights.
"""

from __future__ import annotations

import zipfile

import mxnet as mx
import numpy as np
import pytest
from support.paths import ROOT

from gluondense.training import checkpoint, fit
from gluondense.training.run_folder import RunFolder


@pytest.fixture
def stopped(tmp_path):
    with zipfile.ZipFile(ROOT / "tests" / "files" / "run-0.1.0.zip") as archive:
        archive.extractall(tmp_path / "stopped")
    return RunFolder(tmp_path / "stopped")


def test_the_flat_configuration_is_read(stopped):
    config = stopped.config()
    assert (config.model.name, config.schedule.name, config.optimizer.ema) == (
        "densenet121",
        "cosine",
        0.9,
    )
    assert config.task.name == "classification"
    saved = checkpoint.load(stopped.path)
    assert (saved.epoch, saved.step, saved.progress["batch"]) == (0, 3, 3)
    assert saved.network()(mx.nd.zeros((1, 3, 8, 8))).shape == (1, 5)


def test_the_run_continues_at_its_next_step(stopped, tmp_path):
    config = stopped.config()
    result = fit(config, stopped.path, resume=True, progress=False)
    assert (result.epoch, result.step, result.stopped_by) == (2, 10, None)
    fit(config, tmp_path / "straight", progress=False)
    straight = RunFolder(tmp_path / "straight")
    for name in ("model.params", "average.params", "trainer.states"):
        ours, theirs = (mx.nd.load(str(run.last / name)) for run in (stopped, straight))
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            # Not to the bit: the first steps were another processor's.
            np.testing.assert_allclose(
                value.asnumpy(), theirs[key].asnumpy(), rtol=1e-3, atol=1e-5, err_msg=key
            )
    assert '"optimizer": {' in (stopped.path / "config.json").read_text()
