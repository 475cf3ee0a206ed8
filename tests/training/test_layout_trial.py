from __future__ import annotations

import mxnet as mx
import pytest
from support.training_tiny import TINY

from gluondense.models.registry import build_model
from gluondense.training import checkpoint, fit, layout_trial
from gluondense.training import run as run_module
from gluondense.training.distributed.workers import Workers
from gluondense.training.run import Run
from gluondense.training.step import TrainStep

HALF = TINY.with_fields(dtype="float16")


def test_a_trial_measures_a_step_of_each_layout(monkeypatch):
    steps = []

    class CountedStep(TrainStep):
        def __call__(self, *args):
            steps.append(self.net.spec.layout)
            return super().__call__(*args)

    def make_net():
        return build_model(TINY.model.name, classes=5, **TINY.model.args)

    monkeypatch.setattr(layout_trial, "TrainStep", CountedStep)
    seconds = layout_trial.step_seconds(make_net, (4, 3, 8, 8), mx.cpu(), 2, "float32")
    assert list(seconds) == ["NCHW", "NHWC"]
    assert min(seconds.values()) > 0
    assert steps == ["NCHW"] * 8 + ["NHWC"] * 8


@pytest.fixture
def trials(monkeypatch):
    """Let a CPU stand for a GPU; the shapes of all trials, in which NHWC is faster."""
    shapes = []

    def step_seconds(make_net, shape, device, accumulate, dtype):
        shapes.append(shape)
        return {"NCHW": 0.2, "NHWC": 0.1}

    monkeypatch.setattr(layout_trial, "step_seconds", step_seconds)
    monkeypatch.setattr(run_module, "check_dtype", lambda *args: None)
    return shapes


def test_float16_takes_the_faster_layout_and_says_so(trials, capsys):
    run = Run(HALF, Workers())
    assert trials == [(40, 3, 8, 8)]
    assert run.net.spec.layout == "NHWC"
    said = "layout: NHWC; a step of 40 images takes: NCHW 200.0 ms, NHWC 100.0 ms\n"
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    "fields", [{"dtype": "float32"}, {"model_args": {**TINY.model.args, "layout": "NCHW"}}]
)
def test_no_trial_in_float32_or_if_the_layout_is_given(trials, fields):
    assert Run(HALF.with_fields(**fields), Workers()).net.spec.layout == "NCHW"
    assert not trials


def test_no_trial_with_synchronized_batch_normalization(trials, monkeypatch):
    monkeypatch.setattr(run_module, "find_devices", lambda gpus: [mx.cpu(0), mx.cpu(1)])
    assert Run(HALF.with_fields(sync_bn=True), Workers()).net.spec.layout == "NCHW"
    assert not trials
    assert Run(HALF, Workers()).net.spec.layout == "NHWC"
    assert trials == [(20, 3, 8, 8)]


def test_a_run_is_resumed_in_either_layout(monkeypatch, tmp_path):
    """Trials may differ between machines; the parameters are the same."""
    for epochs, layout in ((1, "NHWC"), (2, "NCHW")):
        monkeypatch.setattr(run_module, "choose_layout", lambda *args, layout=layout: layout)
        result = fit(TINY.with_fields(epochs=epochs), tmp_path, resume=epochs == 2, progress=False)
        assert result.epoch == epochs
        assert checkpoint.load(tmp_path / "checkpoints/last").spec["layout"] == layout
