from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon, nd
from support.training_steps import batch, network

from gluondense.training import TrainStep

TWO = [mx.cpu(0), mx.cpu(1)]
SETTINGS = [
    ([mx.cpu(0)], {}),
    ([mx.cpu(0)], {"accumulate": 2}),
    (TWO, {}),
    (TWO, {"sync_bn": True}),
]


def late_zero(context=None):
    """Return a 0 that MXNet computes for longer than a step of a small network."""
    ones = nd.ones((1500, 1500), ctx=context)
    return nd.dot(ones, ones)[0, 0] * 0


def make_step(net, devices, **settings):
    """Return a function that issues a step, which begins after ``late`` was computed."""
    step = TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss(), **settings)
    x, y = batch(net, 8)

    def issue(late=0):
        step(*(gluon.utils.split_and_load(part, devices) for part in (x + late, y)))

    issue()  # builds the graphs, which takes longer than ``late``
    nd.waitall()
    return issue


def statistics(net):
    found = net.collect_params(".*running_(mean|var)$")
    return {name: [array.asnumpy() for array in p.list_data()] for name, p in found.items()}


@pytest.mark.parametrize("memory_efficient", [False, "light"])
@pytest.mark.parametrize(("devices", "settings"), SETTINGS)
def test_a_read_after_a_step_gets_its_statistics(memory_efficient, devices, settings):
    net = network("dense", memory_efficient, ctx=devices)
    issue = make_step(net, devices, **settings)
    issue(late_zero())
    found = statistics(net)
    nd.waitall()
    np.testing.assert_equal(found, statistics(net))


@pytest.mark.parametrize("memory_efficient", [False, "light"])
def test_a_read_before_a_step_gets_the_statistics_before_it(memory_efficient):
    net = network("dense", memory_efficient)
    issue = make_step(net, [mx.cpu(0)])
    before = statistics(net)
    late = late_zero(mx.cpu(1)).as_in_context(mx.cpu(0))
    with mx.engine.bulk(0):  # otherwise MXNet may join these operators with those of the step
        found = {name: net.collect_params()[name].data() + late for name in before}
    issue()
    for name, array in found.items():
        np.testing.assert_array_equal(array.asnumpy(), before[name][0], err_msg=name)


@pytest.mark.parametrize(("devices", "settings"), SETTINGS[2:])
def test_the_broadcast_of_a_first_step_keeps_the_statistics(devices, settings):
    """``gluon.Trainer`` broadcasts all parameters of the first device in its first step."""
    found = []
    for wait in (True, False):
        net = network("dense", False, ctx=devices)
        trainer = gluon.Trainer(net.collect_params(), "sgd")
        make_step(net, devices, **settings)(late_zero())
        if wait:
            nd.waitall()
        trainer.step(8)
        nd.waitall()
        found.append(statistics(net))
    np.testing.assert_equal(found[1], found[0])
