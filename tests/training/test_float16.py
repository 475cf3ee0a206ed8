"""Training in float16, with the rounding of a GPU, on the CPU."""

from __future__ import annotations

import os

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon
from support.float16_on_cpu import allow_float16
from support.small_networks import BATCH_NORMALIZED, FAMILIES
from support.training_tiny import TINY

from gluondense import get_model
from gluondense.training import TrainStep, checkpoint, fit
from gluondense.training.precision import DynamicLossScale, in_precision

CPUS = [mx.cpu(0), mx.cpu(1)]


@pytest.fixture(autouse=True)
def float16_on_cpu(monkeypatch):
    allow_float16(monkeypatch)


def step(name, dtype, memory_efficient=False, devices=None, layout="NCHW", **options):
    """Return losses, gradients and running statistics of a step."""
    mx.random.seed(3)
    fields = {"classes": 5, "memory_efficient": memory_efficient, "layout": layout}
    net = get_model(name, **fields, **FAMILIES[name])
    net.initialize(ctx=devices)
    trainer = gluon.Trainer(net.collect_params(), "sgd", update_on_kvstore=False)
    trainer.save_states(os.devnull)  # starts the store, see Workers.init_kvstore
    x = mx.nd.array(np.random.default_rng(0).normal(size=(8, 3, 32, 32)))
    parts = [
        gluon.utils.split_and_load(part, devices or [mx.cpu()]) for part in (x, mx.nd.arange(8) % 5)
    ]
    scale = 256.0 if dtype == "float16" else 1.0
    train = TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss(), dtype=dtype, **options)
    losses, outputs = train(*parts, scale=scale)
    assert {output.dtype for output in outputs} == {np.float32}
    trainer.allreduce_grads()
    mx.nd.waitall()
    values = net.collect_params().values()
    grads = [p.list_grad()[0].asnumpy().ravel() / scale for p in values if p.grad_req != "null"]
    statistics = [p.list_data()[0].asnumpy() for p in values if "running" in p.name]
    everything = np.concatenate([np.zeros(0, np.float32), *statistics])
    return np.concatenate([loss.asnumpy() for loss in losses]), np.concatenate(grads), everything


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_step_follows_that_of_float32_and_recomputation_changes_nothing(name):
    loss, grads, statistics = step(name, "float32")
    results = [step(name, "float16", memory_efficient) for memory_efficient in (False, "most")]
    for found, recomputed in zip(*results):
        np.testing.assert_array_equal(found, recomputed)
    assert (results[0][1] != grads).any()
    np.testing.assert_allclose(results[0][0], loss, rtol=0, atol=5e-3)
    np.testing.assert_allclose(results[0][2], statistics, rtol=0, atol=5e-3)
    assert cosine(results[0][1], grads) > 0.97


@pytest.mark.parametrize("name", BATCH_NORMALIZED)
def test_synchronized_statistics_on_two_devices_are_those_of_one(name):
    loss, grads, statistics = step(name, "float32")
    found = step(name, "float16", devices=CPUS, sync_bn=True)
    np.testing.assert_allclose(found[0], loss, rtol=0, atol=2e-2)
    np.testing.assert_allclose(found[2], statistics, rtol=0, atol=2e-2)
    assert cosine(found[1], grads) > 0.97


@pytest.mark.parametrize("name", FAMILIES)
def test_both_layouts_give_the_same_step(name):
    loss, grads, statistics = step(name, "float16")
    found = step(name, "float16", memory_efficient="most", layout="NHWC")
    np.testing.assert_allclose(found[0], loss, rtol=0, atol=5e-3)
    np.testing.assert_allclose(found[2], statistics, rtol=0, atol=5e-3)
    assert cosine(found[1], grads) > 0.97


@pytest.mark.slow
def test_a_resumed_run_has_scale_parameters_and_average_of_an_uninterrupted_one(tmp_path):
    fields = {"ema": 0.9, "memory_efficient": True, "max_steps": 4}
    args = {**TINY.model.args, "layout": "NCHW"}  # no trial of the layouts
    config = TINY.with_fields(dtype="float16", model_args=args, **fields)
    fit(config.with_fields(max_steps=2), tmp_path / "resumed", progress=False)
    result = fit(config, tmp_path / "resumed", resume=True, progress=False)
    expected = fit(config, tmp_path / "straight", progress=False)
    assert np.isfinite(result.last["test_loss"])
    assert result.last["test_loss"] == expected.last["test_loss"]
    runs = [checkpoint.load(tmp_path / name) for name in ("resumed", "straight")]
    assert runs[0].progress["loss_scale"] == runs[1].progress["loss_scale"] < 2.0**16
    for ours, theirs in zip(*(saved.network().collect_params().values() for saved in runs)):
        np.testing.assert_array_equal(ours.data().asnumpy(), theirs.data().asnumpy())


def test_evaluation_in_float16_is_close_to_float32():
    net = get_model("csp_densenet121", classes=5, **FAMILIES["csp_densenet121"])
    net.initialize()
    x = mx.nd.random.normal(shape=(4, 3, 32, 32))
    rounded, exact = in_precision(net, "float16")(x).asnumpy(), net(x).asnumpy()
    assert (rounded != exact).any()
    np.testing.assert_allclose(rounded, exact, rtol=0, atol=5e-3 * abs(exact).max())


def test_a_loss_scale_beyond_float16_skips_the_step():
    net = get_model("densenet121", classes=5, **FAMILIES["densenet121"])
    net.initialize()
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
    scale = DynamicLossScale(2.0**18)
    train = TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss(), dtype="float16")
    updated = []
    for _ in range(8):
        train(mx.nd.ones((4, 3, 32, 32)), mx.nd.arange(4), scale.value)
        updated.append(scale.step(trainer, 4))
    assert not updated[0]
    assert updated[-1]
    assert scale.value == 2.0 ** (18 - updated.count(False))
