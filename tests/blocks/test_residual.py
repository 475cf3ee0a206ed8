from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from support.reference import (
    arrays,
    assert_close,
    below,
    csp_residual_stage,
    images,
    randomize,
    residual_block,
)

from gluondense.blocks import CSPResidualStage, CSPStage, ResidualBlock, ResidualStage


@pytest.mark.parametrize("attention", [None, "se"])
@pytest.mark.parametrize(("ratio", "groups", "width"), [(0.25, 1, 3), (1.0, 4, 12), (0.3, 2, 4)])
@pytest.mark.parametrize("slope", [0.0, 0.1])
def test_block_adds_the_bottleneck_to_its_input(attention, ratio, groups, width, slope):
    block = ResidualBlock(12, ratio, groups, attention, slope=slope, eps=0.05)
    parameters = arrays(randomize(block))
    assert parameters["conv2.conv.weight"].shape == (width, width // groups, 3, 3)
    x = images(2, 12, 6, 5)
    y = block(mx.nd.array(x))
    assert block.out_channels == 12
    assert_close(y, residual_block(x, parameters, groups, slope, 0.05))


def test_block_with_zero_bottleneck_rectifies_its_input():
    block = randomize(ResidualBlock(8, slope=0.5))
    for name in ("gamma", "beta"):
        getattr(block.conv3[1], name).set_data(mx.nd.zeros(8))
    x = images(2, 8, 4, 3)
    np.testing.assert_array_equal(block(mx.nd.array(x)).asnumpy(), np.where(x > 0, x, x / 2))


def test_stage_is_the_sequence_of_its_blocks():
    stage = randomize(ResidualStage(8, 3, bottleneck_ratio=0.5, slope=0.1))
    x = y = images(2, 8, 5, 4)
    for index in (1, 2, 3):
        y = residual_block(y, below(arrays(stage), f"block{index}"), slope=0.1)
    assert stage.out_channels == 8
    assert_close(stage(mx.nd.array(x)), y)


@pytest.mark.parametrize("attention", [None, "se", "path"])
@pytest.mark.parametrize(("strides", "side"), [(1, (7, 6)), (2, (4, 3))])
@pytest.mark.parametrize(
    ("expand", "gamma", "bypass", "part"), [(2.0, 0.5, 12, 12), (0.8, 0.3, 3, 7), (1.0, 0.25, 3, 9)]
)
def test_partial_stage_equals_numpy(attention, strides, side, expand, gamma, bypass, part):
    groups = 1 if part % 2 else 2
    ratios = {"expand_ratio": expand, "partial_ratio": gamma, "bottleneck_ratio": 1.0}
    unit = {"groups": groups, "attention": attention, "slope": 0.1, "eps": 0.05}
    stage = CSPResidualStage(8, 12, 2, strides=strides, **ratios, **unit)
    stage.hybridize()
    parameters = arrays(randomize(stage))
    assert type(stage._children["csp"]) is CSPStage
    assert parameters["expand.conv.weight"].shape[0] == bypass + part
    assert parameters["csp.transition.conv.weight"].shape[:2] == (part, part)
    x = images(2, 8, 7, 6)
    y = stage(mx.nd.array(x))
    assert y.shape == (2, stage.out_channels, *side) == (2, 12, *side)
    assert (stage.output_size(7), stage.output_size(6)) == side
    assert_close(y, csp_residual_stage(x, parameters, bypass, groups, 0.1, 0.05, strides))


def test_stage_of_stride_1_begins_with_the_expansion():
    children = [list(CSPResidualStage(8, 8, 1, strides=s)._children) for s in (1, 2)]
    assert children == [["expand", "csp", "transition"], ["down", "expand", "csp", "transition"]]
