"""ReLU of infinite values gives what MXNet's operators give, on every processor."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn
from support.native_programs import conv, norm_relu, outputs, seq

import gluondense
from gluondense.native.build import INSTRUCTION_SETS

# The layers that end in a ReLU of the operator: all but the Winograd convolution, whose transforms
# subtract infinite values from each other. 20 channels are no whole number of vectors.
NETWORKS = {
    "1x1": lambda: seq(conv(20), nn.Activation("relu")),
    "leaky": lambda: seq(conv(20), nn.LeakyReLU(0.1)),
    "grouped": lambda: seq(conv(20, 3, groups=2), nn.Activation("relu")),
    "norm": lambda: seq(conv(20, 3, groups=2), nn.AvgPool2D(2, 1), norm_relu()),
    "strided": lambda: seq(conv(20, 3, strides=2), nn.Activation("relu")),
}


def network(name):
    net = NETWORKS[name]()
    net.initialize(mx.init.One())  # so that an infinite value gives one of its sign
    net(mx.nd.zeros((1, 4, 9, 9))).wait_to_read()
    return net


def image() -> np.ndarray:
    x = np.random.default_rng(0).standard_normal((1, 4, 9, 9)).astype(np.float32)
    x[0, :, 2, 2], x[0, :, 2, 7] = np.inf, -np.inf
    return x


def check(found, expected):
    assert np.isinf(expected).any()
    assert not np.isnan(expected).any()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_infinite_values(name, tmp_path, native_operator):
    net = network(name)
    gluondense.export(net, tmp_path / "net", (1, 4, 9, 9), "native")
    x = mx.nd.array(image())
    expected = net(x).asnumpy()
    assert (expected.min() >= 0) == (name != "leaky")
    check(gluondense.load_exported(tmp_path / "net")(x).asnumpy(), expected)


@pytest.mark.slow
@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_infinite_values_with_each_instruction_set(isa, tmp_path, native_operator):
    cases = {}
    for name in NETWORKS:
        net = network(name)
        gluondense.export(net, tmp_path / name, (1, 4, 9, 9), "native")
        cases[f"{name}|"] = image(), net(mx.nd.array(image())).asnumpy()
    np.savez(tmp_path / "inputs.npz", **{case: x for case, (x, _) in cases.items()})
    found = outputs(tmp_path, isa, 1)
    for case, (_, expected) in cases.items():
        check(found[f"{case}|0"], expected)
