from __future__ import annotations

import mxnet as mx
import pytest
from support.reference import (
    arrays,
    assert_close,
    below,
    conv,
    images,
    leaky_relu,
    max_pool,
    norm,
    randomize,
    relu,
)

from gluondense.blocks import STEMS, Stem

# kernel, strides, padding, whether BN-ReLU and max-pooling follow
GOLDEN = {
    "imagenet": (7, 2, 3, True),
    "imagenet3": (3, 2, 1, True),
    "cifar": (3, 1, 1, False),
    "half": (3, 2, 1, False),
    "tutorial": (7, 2, 1, True),
}


def test_all_stems_are_tested():
    assert set(GOLDEN) == set(STEMS)


@pytest.mark.parametrize("kind", GOLDEN)
@pytest.mark.parametrize("use_bias", [False, True])
def test_stem_equals_numpy(kind, use_bias):
    kernel, strides, padding, normed_and_pooled = GOLDEN[kind]
    stem = Stem(5, 6, kind, use_bias=use_bias, eps=0.05)
    x = images(2, 5, 22, 17)
    parameters = arrays(randomize(stem))
    expected = conv(x, parameters["conv.weight"], parameters.get("conv.bias"), strides, padding)
    assert parameters["conv.weight"].shape == (6, 5, kernel, kernel)
    if normed_and_pooled:
        expected = max_pool(relu(norm(expected, below(parameters, "norm"), 0.05)))
    y = stem(mx.nd.array(x))
    assert (stem.out_channels, stem.strides) == (6, strides * (2 if normed_and_pooled else 1))
    assert (stem.output_size(22), stem.output_size(17)) == y.shape[2:]
    assert_close(y, expected)


def test_output_size_of_the_tutorial_stem():
    assert (Stem(1, 4, "tutorial").output_size(96), Stem(1, 4).output_size(96)) == (23, 24)


@pytest.mark.parametrize("kind", GOLDEN)
@pytest.mark.parametrize("slope", [0.0, 0.1])
def test_every_stem_can_end_with_norm_and_a_leaky_relu(kind, slope):
    _, strides, padding, pooled = GOLDEN[kind]
    stem = Stem(3, 6, kind, eps=0.05, norm=True, slope=slope)
    x = images(2, 3, 22, 17)
    parameters = arrays(randomize(stem))
    expected = conv(x, parameters["conv.weight"], None, strides, padding)
    expected = leaky_relu(norm(expected, below(parameters, "norm"), 0.05), slope)
    assert_close(stem(mx.nd.array(x)), max_pool(expected) if pooled else expected)
