from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from support.reference import arrays, assert_close, below, dual_path_block, images, randomize

from gluondense.blocks import DualPathBlock, DualPathStage

WIDTHS = {"bottleneck_width": 12, "residual_width": 10, "increment": 3, "groups": 4}


@pytest.mark.parametrize("attention", [None, "se", "path"])
@pytest.mark.parametrize("increment", [3, 16])
def test_block_adds_to_one_path_and_appends_to_the_other(attention, increment):
    widths = {**WIDTHS, "increment": increment}
    block = randomize(DualPathBlock(10 + 7, **widths, eps=0.05, attention=attention))
    block.hybridize()
    if attention == "path":
        block.path.fc.weight.set_data(mx.nd.array(images(2, 10 + increment)))
    residual, dense = images(2, 10, 6, 5), images(2, 7, 6, 5, seed=2)
    paths = block(mx.nd.array(residual), mx.nd.array(dense))
    expected = dual_path_block(residual, dense, arrays(block), groups=4, eps=0.05)
    assert [path.shape[1] for path in paths] == [10, 7 + increment]
    assert block.out_channels == 10 + 7 + increment
    np.testing.assert_array_equal(paths[1].asnumpy()[:, :7], dense)
    for path, expected_path in zip(paths, expected):
        assert_close(path, expected_path)


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("attention", [None, "se", "path"])
def test_first_block_of_a_stage_projects(strides, attention):
    block = DualPathBlock(9, **WIDTHS, strides=strides, project=True, eps=0.05, attention=attention)
    x = images(2, 9, 7, 6)
    paths = randomize(block)(mx.nd.array(x))
    expected = dual_path_block(x, None, arrays(block), groups=4, stride=strides, eps=0.05)
    side = (7, 6) if strides == 1 else (4, 3)
    assert [path.shape for path in paths] == [(2, 10, *side), (2, 3 * 3, *side)]
    assert block.out_channels == 10 + 3 * 3
    for path, expected_path in zip(paths, expected):
        assert_close(path, expected_path)


@pytest.mark.parametrize(("strides", "side"), [(1, (7, 6)), (2, (4, 3))])
def test_stage_is_the_sequence_of_its_blocks(strides, side):
    stage = randomize(DualPathStage(9, 3, strides=strides, eps=0.05, **WIDTHS))
    x = images(2, 9, 7, 6)
    parameters = arrays(stage)
    paths, stride = (x, None), strides
    for index in (1, 2, 3):
        child = below(parameters, f"block{index}")
        paths = dual_path_block(*paths, child, groups=4, stride=stride, eps=0.05)
        stride = 1
    y = stage(mx.nd.array(x))
    assert y.shape == (2, 10 + (3 + 2) * 3, *side)
    assert stage.out_channels == y.shape[1]
    assert (stage.output_size(7), stage.output_size(6)) == side
    assert_close(y, np.concatenate(paths, 1))


def test_eps_and_dropout():
    block = DualPathBlock(9, **WIDTHS, project=True, dropout=0.3)
    units = (block.conv_a, block.conv_b, block.conv_c, block.projection)
    assert {unit[0]._kwargs["eps"] for unit in units} == {1e-3}
    for unit in (block.conv_a, block.conv_b, block.conv_c):
        assert list(unit._children) == ["norm", "relu", "conv", "dropout"]
    assert list(block.projection._children) == ["norm", "relu", "conv"]
