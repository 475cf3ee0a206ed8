"""A run on a GPU: training, resume, evaluation, export, prediction and service."""

from __future__ import annotations

import json

import mxnet as mx
import numpy as np
import pytest
from support.reference import assert_close
from support.training_tiny import TINY

import gluondense
from gluondense.__main__ import main
from gluondense.deploy.serving.service import Service
from gluondense.training import checkpoint, fit
from gluondense.training.run_folder import RunFolder

pytestmark = pytest.mark.gpu

STEADY = TINY.with_fields(model_args={**TINY.model.args, "dropout": 0.0}, gpus=(0,))


def saved(folder):
    arrays = mx.nd.load(str(folder / "checkpoints/last/model.params"))
    return {name: array.asnumpy() for name, array in arrays.items()}


@pytest.fixture
def run(on_cpu, tmp_path):
    fit(STEADY, tmp_path / "run", progress=False)
    return tmp_path / "run"


@pytest.mark.parametrize("fields", [{}, {"memory_efficient": True, "ema": 0.9}])
def test_a_resumed_run_is_the_uninterrupted_one(fields, on_cpu, tmp_path):
    config = STEADY.with_fields(**fields)
    fit(config.with_fields(epochs=1), tmp_path / "resumed", progress=False)
    fit(config, tmp_path / "resumed", resume=True, progress=False)
    fit(config, tmp_path / "straight", progress=False)
    expected = saved(tmp_path / "straight")
    for name, value in saved(tmp_path / "resumed").items():
        # Some of cuDNN's gradients add in any order.
        assert_close(value, expected[name], 0 if on_cpu else 2e-2)


def test_two_devices(two_gpus, tmp_path):
    result = fit(STEADY.with_fields(gpus=(0, 1), epochs=3), tmp_path, progress=False)
    assert result.epoch == 3
    losses = [row["train_loss"] for row in RunFolder(tmp_path).rows()]
    assert losses[-1] < losses[0]


def test_evaluate(run, tmp_path, capsys):
    found = []
    for number, flags in enumerate(([], ["--num-gpus", "1"])):
        file = tmp_path / f"{number}.json"
        assert main(["evaluate", str(run), *flags, "--json", str(file)]) == 0
        found.append(json.loads(file.read_text()))
    assert found[0]["images"] == found[1]["images"] > 0
    assert found[0]["top1"] == pytest.approx(found[1]["top1"], abs=0.01)


@pytest.mark.filterwarnings("ignore:Cannot decide type:UserWarning")  # of SymbolBlock.imports
def test_exports_run_on_a_gpu_and_are_served_there(run, gpu, tmp_path):
    model = checkpoint.load(run)
    net = model.network()
    files = gluondense.export(
        net,
        tmp_path / "net",
        (1, *model.preprocessing.input_shape[1:]),
        preprocessing=model.preprocessing,
        class_names=model.class_names,
        preprocess=True,
        output="probabilities",
    )
    pixels = np.random.default_rng(0).integers(0, 255, (5, 8, 8, 1), np.uint8)
    cpu, device = (
        gluondense.load_exported(files.prefix, context)(mx.nd.array(pixels, context, "uint8"))
        for context in (mx.cpu(0), gpu)
    )
    assert device.context == gpu
    assert_close(device, cpu.asnumpy(), 1e-4)
    service = Service(tmp_path, gpu.device_id if gpu.device_type == "gpu" else None, batch_size=4)
    assert_close(service.outputs(pixels), cpu.asnumpy(), 1e-4)
