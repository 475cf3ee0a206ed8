from __future__ import annotations

from functools import partial

import mxnet as mx
import numpy as np
import pytest
from support.reference import (
    arrays,
    assert_close,
    below,
    dense_block,
    images,
    norm_relu_conv,
    path_weights,
    randomize,
)

from gluondense.blocks import (
    CSPStage,
    DenseBlock,
    DualPathStage,
    NormActConv,
    ResidualStage,
    Transition,
)

BLOCK = partial(DenseBlock, num_layers=2, growth_rate=6, bn_size=2)


def to_width(channels: int):
    return lambda in_channels, prefix: Transition(in_channels, channels, pool=False, prefix=prefix)


@pytest.mark.parametrize(
    ("gamma", "bypass"), [(0.5, 11), (0.25, 5), (0.75, 17), (0.1, 2), (0.9, 20), (0.7, 16)]
)
@pytest.mark.parametrize("transition", [None, to_width(9)])
def test_stage_processes_part_of_the_channels(gamma, bypass, transition):
    channels = 23
    stage = randomize(CSPStage(channels, BLOCK, transition, gamma))
    stage.hybridize()
    x = images(2, channels, 5, 4)
    y = stage(mx.nd.array(x)).asnumpy()
    assert y.shape[1] == stage.out_channels
    np.testing.assert_array_equal(y[:, :bypass], x[:, :bypass])

    parameters = arrays(stage)
    part = dense_block(x[:, bypass:], below(parameters, "block"))
    if transition is not None:
        part = norm_relu_conv(part, below(parameters, "transition"))
    assert part.shape[1] == (9 if transition else channels - bypass + 12)
    assert_close(y[:, bypass:], part)


@pytest.mark.parametrize(
    "block",
    [
        partial(NormActConv, channels=6, kernel=3),
        partial(
            DualPathStage,
            num_blocks=2,
            bottleneck_width=8,
            residual_width=6,
            increment=4,
            groups=2,
        ),
        partial(ResidualStage, num_blocks=2, bottleneck_ratio=0.5),
    ],
    ids=["convolution", "dual path", "residual"],
)
def test_stage_of_any_block(block):
    stage = randomize(CSPStage(10, block, to_width(7), 0.3))
    x = mx.nd.array(images(2, 10, 6, 5))
    expected = stage.transition(stage.block(x[:, 3:]))
    y = stage(x)
    assert y.shape == (2, 3 + 7, 6, 5)
    np.testing.assert_array_equal(y[:, 3:].asnumpy(), expected.asnumpy())


def test_path_attention_weights_the_two_parts():
    stage, plain = (
        CSPStage(12, BLOCK, to_width(8), 0.5, attention) for attention in ("path", None)
    )
    x = images(2, 12, 5, 4)
    parts = np.split(randomize(plain)(mx.nd.array(x)).asnumpy().astype(np.float64), [6], 1)
    randomize(stage).attention.fc.weight.set_data(mx.nd.array(images(2, 14)))
    expected = path_weights(*parts, below(arrays(stage), "attention"))
    assert_close(stage(mx.nd.array(x)), np.concatenate(expected, 1))


@pytest.mark.parametrize("gamma", [0.2, 1.0])
def test_parts_without_channels_raise(gamma):
    with pytest.raises(
        ValueError, match=rf"partial_ratio \(={gamma}\) lets . of 4 channels"
    ) as error:
        CSPStage(4, BLOCK, None, gamma)
    assert "\n" not in str(error.value)
