"""The centers of the cells are those of their receptive fields, at odd sizes too."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from mxnet.gluon import nn

import gluondense
from gluondense.analysis.layers import descendants
from gluondense.explain.cut import cut
from gluondense.explain.grid import Grid, find_grid

TINY = {"block_config": (1, 1, 1), "num_init_features": 8, "growth_rate": 8, "classes": 3}
TINY_DPN = {
    "num_blocks": (1, 1, 1),
    "bottleneck_width": 8,
    "residual_width": 8,
    "groups": 4,
    "increments": (4, 4, 4),
    "classes": 3,
}


def linear(net):
    """Give the network positive weights and average poolings: its output is then linear in x."""
    for _, block in descendants(net):
        if isinstance(block, nn.MaxPool2D):
            block._kwargs["pool_type"] = "avg"
    for name, parameter in net.collect_params().items():
        value = 0.0 if name.endswith(("bias", "beta", "mean")) else 1.0
        if name.endswith("weight"):
            value = 1 / np.prod(parameter.shape[1:])
        parameter.set_data(mx.nd.full(parameter.shape, value))
    return net


def receptive_field(net, stage, size, cell):
    """Return the centroid of the gradient of a cell with respect to the image, (y, x)."""
    x = mx.nd.ones((1, 3, *size))
    x.attach_grad()
    with autograd.record(train_mode=False):
        features = cut(net, stage).lower(x)
        value = features[0, :, cell[0], cell[1]].sum()
    value.backward(train_mode=False)
    weight = x.grad.asnumpy()[0].sum(axis=0)
    return tuple(
        float((weight.sum(axis=1 - axis) * np.arange(size[axis])).sum() / weight.sum())
        for axis in (0, 1)
    )


@pytest.mark.parametrize("size", [(191, 209), (192, 192)])
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("densenet121", TINY),
        ("densenet40_k12_cifar10", {"block_config": (1, 1, 1)}),
        ("csp_densenet121", {**TINY, "fusion": "both"}),
        ("dpn68", TINY_DPN),
        ("csp_resnet50", {"num_blocks": (1, 1, 1), "widths": (8, 16, 24), "classes": 3}),
    ],
)
def test_centers_are_those_of_the_receptive_fields(name, fields, size):
    net = gluondense.get_model(name, **fields)
    net.initialize()
    linear(net)
    parts = cut(net, "stage2")
    h, w = parts.lower(mx.nd.zeros((1, 3, *size))).shape[2:]
    cell = h // 2, w // 2
    expected = [parts.grid.start[a] + parts.grid.step[a] * cell[a] for a in (0, 1)]
    np.testing.assert_allclose(receptive_field(net, "stage2", size, cell), expected, rtol=1e-4)


def test_a_grid_of_known_windows():
    x = mx.sym.Convolution(
        mx.sym.var("data"), kernel=(7, 7), stride=(2, 2), pad=(3, 3), num_filter=1
    )
    x = mx.sym.Pooling(x, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max")
    x = mx.sym.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="avg")
    assert find_grid(x) == Grid((8, 8), (2, 2))
    x = mx.sym.Convolution(x, kernel=(3, 3), dilate=(2, 2), num_filter=1)
    assert find_grid(x) == Grid((8, 8), (18, 18))


def test_upsampling_reproduces_a_plane_and_stays_in_the_maps_range():
    grid = Grid(step=(8, 4), start=(2, 1.5))
    rows, columns = np.arange(5) * 8 + 2, np.arange(6) * 4 + 1.5
    maps = (rows[:, None] + 10 * columns)[None]
    found = grid.upsample(maps, (41, 30))[0]
    assert found.shape == (41, 30)
    y, x = np.mgrid[2:35, 2:22]
    np.testing.assert_allclose(found[2:35, 2:22], y + 10 * x)
    assert found.min() == maps.min()
    assert found.max() == maps.max()
    # Below the last center, where the cells end: the value of the nearest cell.
    assert (found[35:] == found[34]).all()


def test_stretching_the_map_over_the_image_would_be_wrong():
    """At 250 pixels the last map of DenseNet-121 has 7 cells, which reach to pixel 224."""
    net = gluondense.get_model("densenet121")
    grid = cut(net, None).grid
    assert grid == Grid((32, 32), (14, 14))
    maps = np.zeros((7, 7))
    maps[6, 6] = 1
    heat = grid.upsample(maps, (250, 250))
    assert np.argmax(heat[:, -1] == 1) == 206
