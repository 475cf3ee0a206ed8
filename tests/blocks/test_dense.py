from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from support.reference import (
    arrays,
    assert_close,
    avg_pool,
    below,
    dense_block,
    dense_layer,
    images,
    norm_relu_conv,
    path_weights,
    randomize,
)

from gluondense.blocks import DenseBlock, DenseLayer, NormActConv, Transition


@pytest.mark.parametrize("bn_size", [0, 1, 4])
@pytest.mark.parametrize("attention", [None, "se"])
@pytest.mark.parametrize("use_bias", [False, True])
def test_layer_equals_numpy(bn_size, attention, use_bias):
    layer = DenseLayer(10, 6, bn_size, attention, use_bias=use_bias, eps=0.05)
    x = images(2, 10, 7, 5)
    expected = dense_layer(x, arrays(randomize(layer)), eps=0.05)
    assert layer.out_channels == 16
    assert_close(layer(mx.nd.array(x)), expected)


def test_bottleneck_has_bn_size_times_the_growth_rate():
    shapes = {n: p.shape for n, p in DenseLayer(10, 6, 3).collect_params(".*weight").items()}
    assert list(shapes.values()) == [(18, 10, 1, 1), (6, 18, 3, 3)]


@pytest.mark.parametrize("channels", [16, 13])  # a multiple of oneDNN's block size, and not
@pytest.mark.parametrize("hybridize", [False, True])
def test_layer_keeps_its_input_bitwise(channels, hybridize):
    layer = randomize(DenseLayer(channels, 4))
    layer.hybridize(hybridize)
    x = images(2, channels, 5, 6)
    np.testing.assert_array_equal(layer(mx.nd.array(x)).asnumpy()[:, :channels], x)


@pytest.mark.parametrize("bn_size", [0, 2])
@pytest.mark.parametrize(("channels", "growth_rate"), [(16, 12), (24, 12), (9, 7), (16, 24)])
def test_gradient_for_widths_that_onednn_cannot_split(channels, growth_rate, bn_size):
    # MXNet 1.9.1 raises "could not construct a sub-memory", or ends with SIGFPE.
    for num_layers in (2, 3):
        chain = mx.gluon.nn.HybridSequential()
        block = DenseBlock(channels, num_layers, growth_rate, bn_size)
        chain.add(block, Transition(block.out_channels, 32))
        randomize(chain)
        x = mx.nd.array(images(2, channels, 8, 8))
        gradients = []
        for hybridize in (False, True):
            chain.hybridize(hybridize)
            x.attach_grad()
            with autograd.record():
                y = chain(x)
            y.backward(mx.nd.array(images(*y.shape, seed=2)))
            gradients.append(x.grad.asnumpy())
        assert np.abs(gradients[0]).min() > 0
        assert_close(gradients[1], gradients[0])


def test_gradient_equals_finite_differences():
    layer = randomize(DenseLayer(5, 3, 2))
    x, direction = (images(1, 5, 4, 3, seed=seed).astype(np.float64) for seed in (3, 4))
    weigh = images(1, 8, 4, 3, seed=5)
    data = mx.nd.array(x)
    data.attach_grad()
    with autograd.record(train_mode=False):
        y = layer(data)
    y.backward(mx.nd.array(weigh), train_mode=False)
    parameters, step = arrays(layer), 1e-6
    ends = [(weigh * dense_layer(x + s * direction, parameters)).sum() for s in (step, -step)]
    slope = (ends[0] - ends[1]) / (2 * step)
    assert (data.grad.asnumpy() * direction).sum() == pytest.approx(slope, rel=1e-4)


def test_block_is_the_sequence_of_its_layers():
    block = DenseBlock(11, 3, 5, 2, eps=0.05)
    x = images(2, 11, 6, 4)
    expected = dense_block(x, arrays(randomize(block)), eps=0.05)
    y = block(mx.nd.array(x))
    assert y.shape[1] == block.out_channels == 11 + 3 * 5
    assert_close(y, expected)


def test_block_without_its_input_returns_the_new_feature_maps():
    block, whole = DenseBlock(11, 3, 5, keep_input=False), DenseBlock(11, 3, 5)
    x = mx.nd.array(images(2, 11, 6, 4))
    expected = randomize(whole)(x).asnumpy()[:, 11:]
    y = randomize(block)(x)
    assert y.shape[1] == block.out_channels == 15
    np.testing.assert_array_equal(y.asnumpy(), expected)


@pytest.mark.parametrize("channels", [16, 11])
def test_path_attention_weights_input_and_new_feature_maps(channels):
    block = randomize(DenseBlock(channels, 2, 5, attention="path"))
    x = images(2, channels, 6, 4)
    plain = dense_block(x, arrays(block))
    assert_close(block(mx.nd.array(x)), 2 * softmax_of_biases(block, plain, channels))
    block.attention.fc.weight.set_data(mx.nd.array(images(2, channels + 10)))
    parameters = below(arrays(block), "attention")
    expected = path_weights(plain[:, :channels], plain[:, channels:], parameters)
    assert_close(block(mx.nd.array(x)), np.concatenate(expected, 1))


def softmax_of_biases(block, plain, channels):
    """Return the block's output while the weights of its attention are still zero."""
    scores = np.exp(block.attention.fc.bias.data().asnumpy())
    first, second = scores / scores.sum()
    return np.concatenate([first * plain[:, :channels], second * plain[:, channels:]], 1)


@pytest.mark.parametrize(("theta", "channels"), [(0.5, 13), (0.3, 20), (1.0, 7)])
def test_transition_equals_numpy(theta, channels):
    width = int(theta * channels)
    transition = Transition(channels, width, eps=0.05)
    x = images(2, channels, 9, 6)
    expected = avg_pool(norm_relu_conv(x, arrays(randomize(transition)), eps=0.05))
    y = transition(mx.nd.array(x))
    assert y.shape == (2, transition.out_channels, 4, 3) == (2, width, 4, 3)
    assert (transition.strides, transition.output_size(9)) == (2, 4)
    assert_close(y, expected)


def test_transition_without_pooling_or_without_convolution():
    x = images(2, 6, 5, 4)
    flat = Transition(6, 4, pool=False)
    assert_close(randomize(flat)(mx.nd.array(x)), norm_relu_conv(x, arrays(flat)))
    assert (flat.strides, flat.output_size(5)) == (1, 5)
    pool = Transition(6, None)
    assert_close(pool(mx.nd.array(x)), avg_pool(x))
    assert (pool.out_channels, list(pool.collect_params())) == (6, [])


@pytest.mark.parametrize("bn_size", [0, 4])
def test_dropout_follows_each_convolution(bn_size):
    layer = list(DenseLayer(8, 4, bn_size, dropout=0.3)._children)
    first = ["norm1", "relu1", "conv1", "dropout1"]
    assert layer == ([*first, "norm2", "relu2", "conv2", "dropout2"] if bn_size else first)
    assert list(Transition(8, 4, dropout=0.3)._children) == [
        "norm",
        "relu",
        "conv",
        "dropout",
        "pool",
    ]


def test_norm_act_conv_passes_its_arguments_to_the_convolution():
    unit = NormActConv(12, 8, 3, strides=2, groups=4, use_bias=True, eps=0.05)
    x = images(2, 12, 7, 6)
    parameters = arrays(randomize(unit))
    y = unit(mx.nd.array(x))
    assert y.shape == (2, unit.out_channels, 4, 3) == (2, 8, 4, 3)
    assert_close(y, norm_relu_conv(x, parameters, eps=0.05, stride=2, groups=4))
