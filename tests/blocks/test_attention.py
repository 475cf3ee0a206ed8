from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from support.reference import (
    arrays,
    assert_close,
    effective_squeeze_excite,
    images,
    path_weights,
    randomize,
    squeeze_excite,
)

from gluondense.blocks import EffectiveSqueezeExcite, PathWeights, SqueezeExcite


@pytest.mark.parametrize(("channels", "hidden"), [(10, 8), (128, 8), (320, 20)])
def test_squeeze_excite_equals_numpy(channels, hidden):
    block = randomize(SqueezeExcite(channels))
    x = images(2, channels, 5, 3)
    assert block.fc1.weight.shape == (hidden, channels)
    assert_close(block(mx.nd.array(x)), squeeze_excite(x, arrays(block)))


def test_squeeze_excite_reduction():
    assert SqueezeExcite(80, reduction=4).fc1.weight.shape == (20, 80)


@pytest.mark.parametrize("size", [1, 40])  # within and beyond the bounds of the hard sigmoid
def test_effective_squeeze_excite_equals_numpy(size):
    block = randomize(EffectiveSqueezeExcite(10))
    x = size * (1 + images(2, 10, 5, 3))
    assert_close(block(mx.nd.array(x)), effective_squeeze_excite(x, arrays(block)))


def test_initial_path_weights_are_one():
    block = PathWeights(7)
    block.initialize(mx.init.One())
    paths = images(2, 3, 5, 4), images(2, 4, 5, 4, seed=2)
    for path, weighed in zip(paths, block(*map(mx.nd.array, paths))):
        np.testing.assert_array_equal(weighed.asnumpy(), path)


def test_path_weights_equal_numpy():
    block = randomize(PathWeights(7))
    block.fc.weight.set_data(mx.nd.array(images(2, 7)))
    paths = images(2, 3, 5, 4), images(2, 4, 5, 4, seed=2)
    actual = block(*map(mx.nd.array, paths))
    for path, expected in zip(actual, path_weights(*paths, arrays(block))):
        assert_close(path, expected)


def test_path_weights_are_trained():
    block = PathWeights(7)
    block.initialize()
    paths = [mx.nd.array(images(2, width, 5, 4)) for width in (3, 4)]
    with autograd.record():
        first, second = block(*paths)
        loss = (first * 3).sum() + second.sum()
    loss.backward()
    assert np.abs(block.fc.weight.grad().asnumpy()).min() > 0
