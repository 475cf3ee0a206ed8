"""Identity transpositions around grouped convolutions."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from support.native_training import forward_backward, random_parameters, relative_errors

from gluondense.graph.ir import Graph
from gluondense.graph.onednn_layouts import (
    is_identity_transpose,
    unblock_grouped_convs,
    use_onednn_slices,
)
from gluondense.graph.trace import trace
from gluondense.models.registry import build_model

TINY = {
    "dpn68": {"block_config": (1, 2), "classes": 5, "num_init_features": 8},
    "csp_resnext50": {"block_config": (1, 1), "classes": 5},
    "densenet121": {"block_config": (1, 1), "classes": 5},
}


def tiny(name):
    fields = {k: v for k, v in TINY[name].items() if k in build_model(name).spec.__dict__}
    net = build_model(name, **fields)
    params = random_parameters(net)
    return trace(net), params


def with_layouts(symbol):
    graph = Graph(symbol, {})
    count = unblock_grouped_convs(graph)
    use_onednn_slices(graph)
    return mx.sym.load_json(graph.to_json()), count


def grouped_convs(graph):
    return [node for node in graph.operators() if node.op == "Convolution" and node.groups > 1]


@pytest.mark.parametrize("name", TINY)
def test_each_grouped_convolution_has_transpositions_on_both_sides(name):
    symbol, _ = tiny(name)
    new, count = with_layouts(symbol)
    graph = Graph(new, {})
    convs, readers = grouped_convs(graph), graph.readers()
    assert count == len(convs) == len(grouped_convs(Graph(symbol, {})))
    assert bool(count) == (name != "densenet121")
    for conv in convs:
        (reader,) = readers[id(conv)]
        relu = conv.source()
        before = relu.source() if relu.op == "Activation" else relu
        for node in (reader, before):
            assert is_identity_transpose(node), conv.name


@pytest.mark.parametrize("name", TINY)
def test_channels_are_sliced_with_slice(name):
    graph = Graph(tiny(name)[0], {})
    before = [node.name for node in graph.operators() if node.op == "slice_axis"]
    assert use_onednn_slices(graph) == len(before)
    assert [node.name for node in graph.operators() if node.op == "slice"] == before
    assert bool(before) == (name != "densenet121")


def test_slices_within_a_block_of_channels_stay():
    # MXNet's process would end with SIGFPE in the backward pass, see use_onednn_slices.
    fields = {"num_blocks": (1, 1), "widths": (16, 32), "classes": 5}
    graph = Graph(trace(build_model("csp_resnext50", groups=2, **fields)), {})
    # 16 of 32 channels in the second stage, not 8 of 16 in the first.
    assert use_onednn_slices(graph) == 2
    assert sum(node.op == "slice_axis" for node in graph.operators()) == 2


@pytest.mark.parametrize("name", ["dpn68", "csp_resnext50"])
def test_outputs_gradients_and_running_statistics_are_equal(name):
    symbol, params = tiny(name)
    image = np.random.default_rng(0).normal(size=(2, 3, 64, 64))
    exact = forward_backward(symbol, params, image, "float64")
    before, after = (
        relative_errors(forward_backward(graph, params, image), exact)
        for graph in (symbol, with_layouts(symbol)[0])
    )
    # oneDNN's kernels for other layouts add in another order.
    assert {name: after[name] for name in exact if after[name] > max(4 * before[name], 1e-5)} == {}


def test_a_relu_with_other_readers_and_a_convolution_without_relu():
    data = mx.sym.var("data")
    relu = mx.sym.Activation(data, act_type="relu", name="relu")
    one = mx.sym.Convolution(relu, kernel=(3, 3), num_filter=4, num_group=2, name="one")
    two = mx.sym.Convolution(one, kernel=(3, 3), num_filter=4, num_group=2, name="two")
    new, count = with_layouts(mx.sym.Group([two, relu]))
    graph = Graph(new, {})
    assert count == 2
    (one, two) = grouped_convs(graph)
    assert is_identity_transpose(one.source())
    assert one.source().source().name == "relu"
    assert is_identity_transpose(two.source())
    (relu, _) = graph.heads[1]
    assert relu.name == "relu"
    names = [node.name for node in graph.nodes()]
    assert len(set(names)) == len(names)
