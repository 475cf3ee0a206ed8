from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon
from support.training_steps import batch, network

import gluondense
from gluondense.training import TrainStep


@pytest.mark.parametrize("memory_efficient", [False, True])
def test_two_devices_with_common_statistics_train_like_one(memory_efficient):
    results = []
    for devices in ([mx.cpu(0)], [mx.cpu(0), mx.cpu(1)]):
        net = network("dense", memory_efficient, ctx=devices)
        x, y = batch(net, 6, 64)
        trainer = gluon.Trainer(
            net.collect_params(), "nag", {"learning_rate": 0.02, "momentum": 0.9}
        )
        step = TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss(), sync_bn=True)
        losses = []
        for _ in range(4):
            parts = [gluon.utils.split_and_load(value, devices) for value in (x, y)]
            loss, _ = step(*parts)
            trainer.step(len(x))
            losses += [part.asnumpy() for part in loss]
        mx.nd.waitall()
        statistics = [
            p.data(devices[0]).asnumpy() for p in net.collect_params(".*running_mean").values()
        ]
        results.append((np.concatenate(losses), statistics))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-4)
    for one, other in zip(results[0][1], results[1][1]):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_networks_of_other_widths_do_not_share_buffers():
    devices = [mx.cpu(0), mx.cpu(1)]
    for width in (4, 6):
        fields = {"num_init_features": width, "growth_rate": 4, "block_config": (1,)}
        net = gluondense.get_model("densenet121", classes=5, stem="cifar", prefix="net_", **fields)
        net.initialize(ctx=devices)
        x, y = batch(net, 6, 16)
        trainer = gluon.Trainer(net.collect_params(), "sgd")
        step = TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss(), sync_bn=True)
        step(*(gluon.utils.split_and_load(value, devices) for value in (x, y)))
        trainer.step(len(x))
        mx.nd.waitall()
