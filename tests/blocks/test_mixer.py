from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from support.reference import (
    arrays,
    assert_close,
    below,
    conv,
    feature_mixer,
    images,
    layer_norm,
    randomize,
)

from gluondense.blocks import ChannelNorm, FeatureMixer, MixingBlock


@pytest.mark.parametrize("channels", [1, 10, 32])
def test_channel_norm_equals_numpy(channels):
    block = randomize(ChannelNorm(channels, eps=0.05))
    x = 3 + images(2, channels, 5, 4)
    assert_close(block(mx.nd.array(x)), layer_norm(x, arrays(block), 0.05))


@pytest.mark.parametrize("squeeze_excite", [False, True])
@pytest.mark.parametrize("hybridize", [False, True])
def test_mixer_equals_numpy(squeeze_excite, hybridize):
    mixer = randomize(FeatureMixer(10, 6, squeeze_excite, eps=0.05))
    mixer.hybridize(hybridize)
    x = images(2, 10, 9, 7)
    assert mixer.out_channels == 16
    expected = feature_mixer(x, arrays(mixer), eps=0.05)
    assert_close(mixer(mx.nd.array(x)), expected)
    np.testing.assert_array_equal(mixer(mx.nd.array(x)).asnumpy()[:, :10], x)


def test_initial_scale_is_timm_s():
    mixer = FeatureMixer(8, 4)
    mixer.initialize()
    np.testing.assert_array_equal(mixer[-1].factor.data().asnumpy(), np.full(4, 1e-6, "float32"))


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("compression", [0.5, 0])
def test_block_equals_numpy(strides, compression):
    options = {"compression": compression, "strides": strides, "eps": 0.05}
    block = randomize(MixingBlock(36, 5, (0.0, 0.0), squeeze_excite=True, **options))
    x = images(2, 36, 9, 6)
    parameters = arrays(block)
    expected = x
    if compression:  # to 16 channels, a whole number of eights
        expected = layer_norm(x, below(parameters, "norm"), 0.05)
        weight, bias = parameters["conv.weight"], parameters["conv.bias"]
        assert weight.shape == (16, 36, strides, strides)
        expected = conv(expected, weight, bias, strides, padding=0)
    for name in ("layer1", "layer2"):
        expected = feature_mixer(expected, below(parameters, name), eps=0.05)
    y = block(mx.nd.array(x))
    assert block.out_channels == y.shape[1] == (26 if compression else 46)
    if compression:
        assert (block.output_size(9), block.output_size(6)) == y.shape[2:]
    assert_close(y, expected)


def test_a_transition_without_output_is_refused():
    with pytest.raises(ValueError, match=r"compression \(=0.5\) must be at least 8 times 14"):
        MixingBlock(14, 4, (0.0,), eps=1e-6)
