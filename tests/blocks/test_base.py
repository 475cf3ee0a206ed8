from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn
from support.reference import arrays, assert_close, conv_norm_relu, images, randomize

from gluondense.blocks import Chain, ConvNormAct
from gluondense.blocks.base import concat


def test_chain_names_children_by_prefix():
    chain = Chain(prefix="stage_")
    with chain.name_scope():
        chain.add(nn.Dense(2, prefix="first_"), nn.Dense(2, prefix="second_"))
        chain.add(nn.Dense(2, prefix="first_"))  # the name is taken
        chain.add(nn.Dense(2, prefix=""))  # no name
    chain.add(nn.Dense(2, prefix="elsewhere_"))  # not a prefix of this chain
    assert list(chain._children) == ["first", "second", "2", "3", "4"]


def test_chain_can_be_sliced_and_indexed():
    chain = Chain(prefix="stage_")
    with chain.name_scope():
        chain.add(*(nn.Dense(width, in_units=3, prefix=f"fc{width}_") for width in (3, 4, 5)))
    assert len(chain) == 3
    assert chain[1] is chain._children["fc4"]
    assert [block is chain[index] for index, block in enumerate(chain[:2])] == [True, True]


@pytest.mark.parametrize("width", [16, 32, 1, 12, 40])
@pytest.mark.parametrize("hybridize", [False, True])
def test_concat_forward_and_backward(width, hybridize):
    class Join(nn.HybridBlock):
        def hybrid_forward(self, F, first, second):
            return concat(F, first, second, width)

    join = Join()
    join.hybridize(hybridize)
    parts = [mx.nd.array(images(2, channels, 3, 5)) for channels in (width, 9)]
    gradient = images(2, width + 9, 3, 5, seed=2)
    for part in parts:
        part.attach_grad()
    with mx.autograd.record():
        y = join(*parts)
    y.backward(mx.nd.array(gradient))
    expected = np.concatenate([part.asnumpy() for part in parts], 1)
    np.testing.assert_array_equal(y.asnumpy(), expected)
    np.testing.assert_array_equal(parts[0].grad.asnumpy(), gradient[:, :width])
    np.testing.assert_array_equal(parts[1].grad.asnumpy(), gradient[:, width:])


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize(
    "options", [{}, {"slope": 0.1}, {"act": False}, {"groups": 2, "strides": 2, "slope": 0.01}]
)
def test_conv_norm_act_equals_numpy(kernel, options):
    unit = randomize(ConvNormAct(6, 10, kernel, eps=0.05, **options))
    x = images(2, 6, 9, 7)
    kwargs = {"stride" if name == "strides" else name: v for name, v in options.items()}
    y = unit(mx.nd.array(x))
    assert y.shape[1] == unit.out_channels == 10
    assert_close(y, conv_norm_relu(x, arrays(unit), eps=0.05, **kwargs))


def test_dropout_follows_the_unit():
    names = ["conv", "norm", "relu", "dropout"]
    assert list(ConvNormAct(2, 2, dropout=0.1)._children) == names
    assert list(ConvNormAct(2, 2, act=False)._children) == names[:2]


@pytest.mark.parametrize(("widths", "groups"), [((6, 0), 1), ((6, 8), 3), ((8, 6), 4)])
def test_groups_must_divide_the_channels(widths, groups):
    with pytest.raises(
        ValueError, match=rf"{widths[0]} to {widths[1]} .*groups \(={groups}\)"
    ) as e:
        ConvNormAct(*widths, groups=groups)
    assert "\n" not in str(e.value)
