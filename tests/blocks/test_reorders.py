"""Functions that read the parameters on a CPU wait for running inference first.

A slow operator replaces the inference here. With real networks, wrong values are rare and depend on
the load of the machine: docs/notes/reliability.md.
"""

from __future__ import annotations

import time

import mxnet as mx
import pytest

import gluondense
from gluondense.data.preprocessing import CIFAR
from gluondense.deploy.exporter import parameter_arrays
from gluondense.explain import feature_reuse
from gluondense.training.checkpoint import write
from gluondense.weights import save_weights

ENDED = []


@mx.operator.register("gluondense_test_slow")
class Slow(mx.operator.CustomOpProp):
    def create_operator(self, *_):
        return SlowOperator()


class SlowOperator(mx.operator.CustomOp):
    def forward(self, is_train, req, in_data, out_data, aux):
        time.sleep(0.3)
        self.assign(out_data[0], req[0], in_data[0])
        ENDED.append(1)


def save_checkpoint(net, folder):
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd")
    write.save(folder / "last", net, trainer, {"preprocessing": CIFAR})


READERS = {
    "checkpoint": save_checkpoint,
    "export": lambda net, folder: parameter_arrays(net),
    "save_weights": lambda net, folder: save_weights(net, folder / "net.safetensors"),
    "save_parameters": lambda net, folder: net.save_parameters(str(folder / "net.params")),
    "gluon export": lambda net, folder: net.export(str(folder / "net")),
    "explain": lambda net, folder: feature_reuse(net),
}


@pytest.fixture(scope="module")
def net():
    net = gluondense.get_model("densenet40_k12_cifar10", block_config=(2, 2))
    net.initialize()
    net(mx.nd.ones((1, 3, 32, 32))).wait_to_read()
    return net


@pytest.mark.parametrize("name", READERS)
def test_waits_for_running_inference(name, net, tmp_path):
    ENDED.clear()
    mx.nd.Custom(mx.nd.ones(1), op_type="gluondense_test_slow")
    READERS[name](net, tmp_path)
    assert ENDED
