from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from support.reference import (
    arrays,
    assert_close,
    below,
    conv,
    conv_norm_relu,
    images,
    layer_norm,
    leaky_relu,
    max_pool,
    norm,
    randomize,
    sigmoid,
    windows,
)

from gluondense.blocks import STEMS, MaxBlurPool, Stem

PADDED = ((0, 0), (0, 0), (1, 1), (1, 1))
# kernel, strides, padding, whether BN-ReLU and max-pooling follow
GOLDEN = {
    "patch4": (4, 4, 0, False),
    "imagenet": (7, 2, 3, True),
    "imagenet3": (3, 2, 1, True),
    "deep": (3, 2, 1, True),
    "darknet": (3, 1, 1, False),
    "pelee": (3, 2, 1, True),
    "cifar": (3, 1, 1, False),
    "half": (3, 2, 1, False),
    "tutorial": (7, 2, 1, True),
}


def pool(kind, x, parameters, slope=0.0):
    """Subsample by 2 as the stem does."""
    if kind != "pelee":
        return max_pool(x)
    units = {name: below(parameters, f"pool.{name}") for name in ("conv1", "conv2", "fuse")}
    down = conv_norm_relu(x, units["conv1"], slope, 0.05)
    down = conv_norm_relu(down, units["conv2"], slope, 0.05, stride=2)
    even = np.pad(x, [(0, 0), (0, 0), *((0, side % 2) for side in x.shape[2:])], mode="edge")
    largest = windows(even, 2, 2).max((4, 5))
    return conv_norm_relu(np.concatenate([largest, down], 1), units["fuse"], slope, 0.05)


def convolve(x, parameters, strides, padding, slope=0.0, act=leaky_relu):
    """Run the convolutions, each with BN-ReLU if it has parameters for it."""
    for suffix in ("", "2", "3"):
        if f"conv{suffix}.weight" not in parameters:
            break
        bias = parameters.get(f"conv{suffix}.bias")
        x = conv(x, parameters[f"conv{suffix}.weight"], bias, strides, padding)
        if f"norm{suffix}.gamma" in parameters:
            x = act(norm(x, below(parameters, f"norm{suffix}"), 0.05), slope)
        strides, padding = 1, 1
    return x


def test_all_stems_are_tested():
    assert set(GOLDEN) == set(STEMS)


@pytest.mark.parametrize("kind", GOLDEN)
@pytest.mark.parametrize("use_bias", [False, True])
def test_stem_equals_numpy(kind, use_bias):
    kernel, strides, padding, normed_and_pooled = GOLDEN[kind]
    stem = Stem(5, 6, kind, use_bias=use_bias, eps=0.05)
    x = images(2, 5, 22, 17)
    parameters = arrays(randomize(stem))
    assert parameters["conv.weight"].shape == (6 if kind != "deep" else 3, 5, kernel, kernel)
    expected = convolve(x, parameters, strides, padding)
    if normed_and_pooled:
        expected = pool(kind, expected, parameters)
    y = stem(mx.nd.array(x))
    assert (stem.out_channels, stem.strides) == (6, strides * (2 if normed_and_pooled else 1))
    assert (stem.output_size(22), stem.output_size(17)) == y.shape[2:]
    assert_close(y, expected)


@pytest.mark.parametrize("kind", GOLDEN)
def test_every_stem_can_end_with_layer_normalization(kind):
    _, strides, padding, pooled = GOLDEN[kind]
    stem = Stem(3, 6, kind, eps=0.05, norm="layer")
    x = images(2, 3, 22, 17)
    parameters = arrays(randomize(stem))
    last = "norm3" if kind == "deep" else "norm"
    before = {key: value for key, value in parameters.items() if not key.startswith(f"{last}.")}
    expected = convolve(x, before, strides, padding)
    expected = layer_norm(expected, below(parameters, last), 0.05)
    expected = pool(kind, expected, parameters) if pooled else expected
    assert_close(stem(mx.nd.array(x)), expected)


def test_output_size_of_the_tutorial_stem():
    assert (Stem(1, 4, "tutorial").output_size(96), Stem(1, 4).output_size(96)) == (23, 24)


@pytest.mark.parametrize("kind", GOLDEN)
@pytest.mark.parametrize("slope", [0.0, 0.1])
def test_every_stem_can_end_with_norm_and_a_leaky_relu(kind, slope):
    _, strides, padding, pooled = GOLDEN[kind]
    stem = Stem(3, 6, kind, eps=0.05, norm=True, slope=slope)
    x = images(2, 3, 22, 17)
    parameters = arrays(randomize(stem))
    expected = convolve(x, parameters, strides, padding, slope)
    expected = pool(kind, expected, parameters, slope) if pooled else expected
    assert_close(stem(mx.nd.array(x)), expected)


def test_silu_stem():
    stem = Stem(3, 6, "half", eps=0.05, norm=True, act="silu")
    x = images(2, 3, 22, 17)
    silu = convolve(x, arrays(randomize(stem)), 2, 1, act=lambda x, slope: x * sigmoid(x))
    assert_close(stem(mx.nd.array(x)), silu)


@pytest.mark.parametrize("size", [(2, 2), (7, 2), (8, 9), (22, 17)])
def test_blur_pool_equals_the_binomial_filter_on_reflected_edges(size):
    x = images(2, 3, *size)
    largest = windows(np.pad(x, PADDED, constant_values=-np.inf), 3, 1).max((4, 5))
    binomial = np.outer([1, 2, 1], [1, 2, 1]) / 16
    expected = (windows(np.pad(largest, PADDED, mode="reflect"), 3, 2) * binomial).sum((4, 5))
    assert_close(MaxBlurPool()(mx.nd.array(x)), expected)


@pytest.mark.parametrize("size", [(7, 6), (8, 9)])
def test_gradient_of_blur_pool_is_that_of_the_filter(size):
    x, direction = images(1, 2, *size), images(1, 2, *(-(-side // 2) for side in size), seed=2)
    image = mx.nd.array(x, dtype="float64")
    image.attach_grad()
    with mx.autograd.record():
        loss = (MaxBlurPool()(image) * mx.nd.array(direction, dtype="float64")).sum()
    loss.backward()
    step = 1e-5
    for place in ((0, 0, 0, 0), (0, 1, 3, 2), (0, 1, size[0] - 1, size[1] - 1)):
        moved = [x.astype("float64"), x.astype("float64")]
        moved[0][place] += step
        moved[1][place] -= step
        up, down = (
            (MaxBlurPool()(mx.nd.array(each, dtype="float64")).asnumpy() * direction).sum()
            for each in moved
        )
        assert abs((up - down) / (2 * step) - image.grad.asnumpy()[place]) < 1e-6


def test_blurred_stems_need_a_map_of_two_pixels():
    stem = Stem(3, 4, "deep", blur_pool=True)
    stem.initialize()
    assert [stem.output_size(size) for size in (2, 3, 5, 6)] == [0, 1, 2, 2]
    assert stem(mx.nd.array(images(1, 3, 3, 5))).shape == (1, 4, 1, 2)
