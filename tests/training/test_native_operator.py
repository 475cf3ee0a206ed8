# SPDX-License-Identifier: Apache-2.0
"""The native operator predicts the test set of a run on a CPU."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn
from support.exported_networks import VARIANTS, build

import gluondense
from gluondense.deploy import load_exported
from gluondense.training.native_operator import Evaluated

pytestmark = pytest.mark.usefixtures("native_operator")
IMAGES = mx.nd.array(np.random.default_rng(0).standard_normal((2, 3, 64, 64)))


def test_predicts_what_the_export_does(tmp_path):
    net = build(*VARIANTS["densenet"])
    prefix = gluondense.export(net, tmp_path / "net", IMAGES.shape, "native").prefix
    found = Evaluated(net, native=True).now()(IMAGES).asnumpy()
    np.testing.assert_array_equal(found, load_exported(prefix)(IMAGES).asnumpy())
    np.testing.assert_allclose(found, net(IMAGES).asnumpy(), rtol=1e-4, atol=1e-4)


def test_predicts_with_the_present_parameters():
    net = build(*VARIANTS["densenet"])
    evaluated = Evaluated(net, native=True)
    before = evaluated.now()(IMAGES).asnumpy()
    bias = net.output.bias
    bias.set_data(bias.data() + 1)
    np.testing.assert_allclose(evaluated.now()(IMAGES).asnumpy(), before + 1, rtol=1e-5, atol=1e-5)


def test_predicts_on_the_context_of_the_network():
    net = build(*VARIANTS["densenet"])
    expected = net(IMAGES).asnumpy()
    net.collect_params().reset_ctx(mx.cpu(1))
    images = IMAGES.as_in_context(mx.cpu(1))
    found = Evaluated(net, native=True).now()(images).asnumpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_an_operator_without_a_native_counterpart_keeps_the_network():
    net = nn.HybridSequential()
    net.add(nn.Conv2D(4, 3, in_channels=3), nn.InstanceNorm(in_channels=4))
    net.initialize()
    net.hybridize()
    net(IMAGES).wait_to_read()
    assert Evaluated(net, native=True).now() is net


def test_without_the_native_operator_the_network_predicts():
    net = build(*VARIANTS["densenet"])
    assert Evaluated(net, native=False).now() is net
