from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from support import necks as reference
from support.reference import arrays, assert_close, images, randomize

from gluondense.detection import SPP, DetectorSpec, Maxout, SpaceToDepth, SpatialAttention
from gluondense.detection.blocks import Upsample
from gluondense.detection.necks import NECKS, width_at

CHANNELS = {4: 20, 8: 24, 16: 36, 32: 40}


def test_maxout_compares_channels_that_are_a_group_apart():
    x = images(2, 12, 3, 4)
    out = Maxout(12, 3)(mx.nd.array(x)).asnumpy()
    expected = [[x[n, [g, g + 4, g + 8]].max(0) for g in range(4)] for n in range(2)]
    np.testing.assert_array_equal(out, expected)


def test_maxout_needs_groups_of_one_size():
    with pytest.raises(ValueError, match=r"groups \(=3\) must be a divisor of in_channels=8"):
        Maxout(8, 3)


def test_maxout_passes_the_gradient_to_the_largest_only():
    x = mx.nd.array([[[[1.0]], [[5.0]], [[3.0]], [[2.0]]]])
    x.attach_grad()
    with mx.autograd.record():
        Maxout(4, 2)(x).backward()
    assert x.grad.reshape(-1).asnumpy().tolist() == [0, 1, 1, 0]


def test_spatial_attention_gates_every_value():
    block = randomize(SpatialAttention(8))
    x = images(2, 8, 5, 4)
    assert_close(block(mx.nd.array(x)), reference.attention(x, arrays(block)))


@pytest.mark.parametrize("block", [2, 4])
def test_space_to_depth_moves_the_pixels_of_a_square_to_channels(block):
    x = images(2, 3, 8, 12)
    out = SpaceToDepth(block)(mx.nd.array(x)).asnumpy()
    assert out.shape == (2, 3 * block**2, 8 // block, 12 // block)
    for i, j, c in np.ndindex(block, block, 3):
        np.testing.assert_array_equal(out[:, (i * block + j) * 3 + c], x[:, c, i::block, j::block])


def test_upsampling_repeats_pixels():
    x = images(2, 3, 4, 5)
    np.testing.assert_array_equal(Upsample(2)(mx.nd.array(x)).asnumpy(), reference.upsample(x, 2))


def test_spp_pools_with_three_windows():
    block = randomize(SPP(64))
    x = images(2, 64, 14, 15)
    assert_close(block(mx.nd.array(x)), reference.spp(x, arrays(block)))


@pytest.mark.parametrize("fields", [{}, {"attention": None, "head_depth": 3}, {"spp": True}])
@pytest.mark.parametrize("fusion", list(NECKS))
def test_a_neck_is_its_formula(fusion, fields):
    spec = DetectorSpec(fusion=fusion, width=0.125, **fields)
    neck = randomize(NECKS[fusion](CHANNELS, spec, prefix="neck_"))
    # The coarsest map, 3 x 5, is odd: that of stride 64 covers more than it.
    maps = {s: images(2, c, 96 // s, 160 // s, seed=s) for s, c in CHANNELS.items()}
    outputs = neck(*[mx.nd.array(maps[stride]) for stride in neck.strides])
    expected = reference.neck(fusion, maps, arrays(neck), spec.head_depth)
    assert len(outputs) == 3
    for width, output, each in zip(neck.out_channels, outputs, expected):
        assert output.shape[1] == width
        assert_close(output, each)


@pytest.mark.parametrize(
    ("fusion", "strides", "inputs"),
    [
        ("fpn", (8, 16, 32), {8: 128 + 24, 16: 256 + 36, 32: 40}),
        ("gfm", (8, 16, 32), {8: 3 * 128, 16: 3 * 256, 32: 3 * 512}),
        ("efm", (4, 8, 16, 32), {8: 3 * 128, 16: 3 * 256, 32: 3 * 512}),
    ],
)
def test_what_each_head_reads(fusion, strides, inputs):
    neck = NECKS[fusion](CHANNELS, DetectorSpec(fusion=fusion))
    assert neck.strides == strides
    for stride, width in inputs.items():
        first = neck.head._children[f"stride{stride}"].body[0][0].weight
        assert first.shape == (width_at(stride, 1.0), width, 1, 1)
    assert neck.out_channels == [1024, 512, 256]


def test_every_parameter_of_a_neck_learns():
    spec = DetectorSpec(width=0.125, spp=True)
    neck = randomize(NECKS["efm"](CHANNELS, spec))
    maps = [mx.nd.array(images(2, CHANNELS[s], 64 // s, 64 // s, seed=s)) for s in neck.strides]
    with mx.autograd.record():
        total = sum((output * output).sum() for output in neck(*maps))
    total.backward()
    for name, parameter in neck.collect_params().items():
        if parameter.grad_req != "null":
            assert parameter.grad().abs().max().asscalar() > 0, name
