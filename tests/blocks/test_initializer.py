from __future__ import annotations

import math

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from gluondense.blocks import HeFanOut


def initialized(block: nn.Block, init=None) -> np.ndarray:
    mx.random.seed(3)
    block.initialize(init or HeFanOut())
    assert block.bias is None or not block.bias.data().asnumpy().any()
    return block.weight.data().asnumpy()


@pytest.mark.parametrize(
    ("channels", "kernel", "groups"), [(64, 3, 1), (512, 1, 1), (96, 7, 1), (256, 3, 8)]
)
def test_convolution_is_normal_over_its_outputs(channels, kernel, groups):
    conv = nn.Conv2D(channels, kernel, groups=groups, in_channels=160)
    weight = initialized(conv)
    expected = math.sqrt(2 / (channels * kernel**2))
    assert weight.std() == pytest.approx(expected, rel=0.02)
    assert weight.mean() == pytest.approx(0, abs=0.02 * expected)
    # 4.6 % of a normal distribution are beyond two standard deviations, 0 % of a uniform one
    assert (np.abs(weight) > 2 * expected).mean() == pytest.approx(0.0455, rel=0.1)


def test_fully_connected_layer_is_uniform_over_its_inputs():
    weight = initialized(nn.Dense(300, in_units=400))
    bound = 1 / math.sqrt(400)
    assert np.abs(weight).max() <= bound
    assert np.abs(weight).max() == pytest.approx(bound, rel=1e-3)
    assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.01)
    assert weight.mean() == pytest.approx(0, abs=0.01 * bound)


def test_registered_and_reproducible_from_the_seed():
    dense = [initialized(nn.Dense(3, in_units=4), init) for init in ("hefanout", HeFanOut())]
    np.testing.assert_array_equal(*dense)


def test_batch_normalization_is_not_changed():
    norm = nn.BatchNorm(in_channels=5)
    norm.initialize(HeFanOut())
    values = [norm.gamma, norm.beta, norm.running_mean, norm.running_var]
    assert [set(value.data().asnumpy()) for value in values] == [{1.0}, {0.0}, {0.0}, {1.0}]
