from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon, nd
from support.training_steps import batch, network
from support.training_tiny import TINY

from gluondense.models import build_model
from gluondense.training import TrainStep, fit
from gluondense.training.observers import moving_average
from gluondense.training.observers.moving_average import MovingAverage


def test_average_follows_its_formula_and_lends_itself(tmp_path):
    net = build_model(
        "densenet121", classes=3, stem="cifar", block_config=(1, 1), num_init_features=16
    )
    net.initialize()
    net(nd.ones((1, 3, 8, 8))).wait_to_read()
    rng = np.random.default_rng(0)
    parameters = net._collect_params_with_prefix()
    average = MovingAverage(net, 0.9)
    expected = {name: p.data().asnumpy() for name, p in parameters.items()}
    for _ in range(3):
        for name, parameter in parameters.items():
            parameter.set_data(nd.array(rng.normal(size=parameter.shape)))
            expected[name] = 0.9 * expected[name] + 0.1 * parameter.data().asnumpy()
        average.on_step(None)
    before = {name: p.data().asnumpy() for name, p in parameters.items()}
    with average.evaluating(None):
        for name, parameter in parameters.items():
            np.testing.assert_allclose(parameter.data().asnumpy(), expected[name], atol=1e-5)
    for name, parameter in parameters.items():
        np.testing.assert_array_equal(parameter.data().asnumpy(), before[name])
    average.save(tmp_path / "a.params")
    again = MovingAverage(net, 0.9)
    again.load(tmp_path / "a.params")
    for name, array in average.arrays.items():
        np.testing.assert_array_equal(array.asnumpy(), again.arrays[name].asnumpy())


def averages(wait: bool, memory_efficient, devices=None, **settings) -> dict[str, np.ndarray]:
    """Average over some steps, of which each is issued while MXNet still computes the last."""
    net = network("dense", memory_efficient, ctx=devices)
    average = MovingAverage(net, 0.5)
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.01})
    step = TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss(), **settings)
    x, y = batch(net)
    for _ in range(6):
        late = nd.dot(nd.ones((600, 600)), nd.ones((600, 600)))[0, 0] * 0  # MXNet is busy for long
        parts = [x + late, y]
        if devices:
            parts = [gluon.utils.split_and_load(part, devices) for part in parts]
        step(*parts)
        trainer.step(4)
        if wait:
            nd.waitall()
        average.on_step(None)
    return {name: array.asnumpy() for name, array in average.arrays.items()}


@pytest.mark.parametrize(
    ("memory_efficient", "devices", "settings"),
    [
        (False, None, {}),
        ("light", None, {}),
        (False, [mx.cpu(0), mx.cpu(1)], {"sync_bn": True}),
    ],
)
def test_the_order_of_steps_and_averages_needs_no_wait(
    memory_efficient, devices, settings, monkeypatch
):
    # An operator with one array does not wait for another array of the same layer.
    monkeypatch.setattr(moving_average, "_ARRAYS_PER_OPERATOR", 1)
    expected = averages(True, memory_efficient, devices, **settings)
    found = averages(False, memory_efficient, devices, **settings)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_step_waits_for_one_number_of_an_earlier_step(tmp_path, monkeypatch, ema):
    waits: list[str] = []

    def count(owner, name):
        wait = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, **k: (waits.append(name), wait(*a, **k))[1])

    for name in ("asnumpy", "asscalar", "wait_to_read"):
        count(nd.NDArray, name)
    count(nd, "waitall")
    counts = []
    for steps in (2, 4):  # of one epoch
        waits.clear()
        config = TINY.with_fields(max_steps=steps, ema=ema)
        fit(config, tmp_path / str(steps), progress=False)
        counts.append({name: waits.count(name) for name in set(waits)})
    added = {name: counts[1].get(name, 0) - counts[0][name] for name in counts[0]}
    assert {name: count for name, count in added.items() if count} == {"asnumpy": 2}
