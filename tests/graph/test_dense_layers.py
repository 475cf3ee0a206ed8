"""Which dense layers of a graph are those of the native operator."""

from __future__ import annotations

import mxnet as mx
import pytest

from gluondense.blocks.pelee import TwoWayBlock
from gluondense.graph.dense_layers import TWO_WAY, dense_layer, is_non_negative
from gluondense.graph.ir import Graph

DATA = mx.sym.var("data")
RELU = mx.sym.Activation(DATA, act_type="relu")


def layers(source, growth_rate=12):
    """Return the layers found in a block of two two-way layers."""
    block = TwoWayBlock(8, growth_rate, 1, drop_path=(0.0, 0.0), prefix="block_")
    graph = Graph(block(source), {})
    uses = graph.uses()
    return [layer for node in graph.operators() if (layer := dense_layer(node, uses))]


@pytest.mark.parametrize("growth_rate", [12, 13, 32])
def test_two_way_layers_are_found(growth_rate):
    found = layers(RELU, growth_rate)
    assert {layer.kind for layer in found} == {TWO_WAY}
    # Both are also found without the detour for oneDNN's concatenation, at the node before it.
    assert {(layer.growth, layer.bottleneck) for layer in found} == {
        (growth_rate, growth_rate // 2 * 2)
    }
    assert len({layer.units[0].conv.name for layer in found}) == 2


def test_two_way_layers_of_an_input_that_may_be_negative_are_not():
    """The operator reads its input through a ReLU."""
    assert not layers(DATA)


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [
        (RELU, True),
        (mx.sym.Pooling(RELU, kernel=(2, 2), pool_type="avg"), True),
        (mx.sym.concat(mx.sym.slice_axis(RELU, axis=1, begin=0, end=2), RELU, dim=1), True),
        (mx.sym.concat(DATA, RELU, dim=1), False),
        (mx.sym.Activation(DATA, act_type="tanh"), False),
        (mx.sym.Convolution(RELU, kernel=(1, 1), num_filter=2), False),
    ],
    ids=range(6),
)
def test_sign_of_feature_maps(symbol, expected):
    ((node, _),) = Graph(symbol, {}).heads
    assert is_non_negative(node) == expected
