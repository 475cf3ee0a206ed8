"""Transpositions around convolutions in groups, which change layouts and no numbers."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from support.native_training import error, run, values

from gluondense.graph.ir import Graph
from gluondense.graph.onednn_layouts import is_same_order, slice_with_onednn, unblock_groups
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
    params = values(net)
    return trace(net), params


def changed(symbol):
    graph = Graph(symbol, {})
    count = unblock_groups(graph)
    slice_with_onednn(graph)
    return mx.sym.load_json(graph.to_json()), count


def in_groups(graph):
    return [
        node
        for node in graph.operators()
        if node.op == "Convolution" and node.attrs.get("num_group", "1") != "1"
    ]


@pytest.mark.parametrize("name", TINY)
def test_every_convolution_in_groups_has_them_on_both_sides(name):
    symbol, _ = tiny(name)
    new, count = changed(symbol)
    graph = Graph(new, {})
    convs, readers = in_groups(graph), graph.readers()
    assert count == len(convs) == len(in_groups(Graph(symbol, {})))
    assert bool(count) == (name != "densenet121")
    for conv in convs:
        (behind,) = readers[id(conv)]
        relu = conv.source()
        before = relu.source() if relu.op == "Activation" else relu
        for node in (behind, before):
            assert is_same_order(node), conv.name


@pytest.mark.parametrize("name", TINY)
def test_channels_are_cut_by_slices(name):
    graph = Graph(tiny(name)[0], {})
    before = [node.name for node in graph.operators() if node.op == "slice_axis"]
    assert slice_with_onednn(graph) == len(before)
    assert [node.name for node in graph.operators() if node.op == "slice"] == before
    assert bool(before) == (name != "densenet121")


@pytest.mark.parametrize("name", ["dpn68", "csp_resnext50"])
def test_outputs_gradients_and_statistics_stay(name):
    symbol, params = tiny(name)
    image = np.random.default_rng(0).normal(size=(2, 3, 64, 64))
    exact = run(symbol, params, image, "float64")
    usual, ours = (
        error(run(graph, params, image), exact) for graph in (symbol, changed(symbol)[0])
    )
    # Blocks of other sizes add up in another order.
    assert {name: ours[name] for name in exact if ours[name] > max(4 * usual[name], 1e-5)} == {}


def test_a_relu_that_others_read_too_and_none_at_all():
    data = mx.sym.var("data")
    relu = mx.sym.Activation(data, act_type="relu", name="relu")
    one = mx.sym.Convolution(relu, kernel=(3, 3), num_filter=4, num_group=2, name="one")
    two = mx.sym.Convolution(one, kernel=(3, 3), num_filter=4, num_group=2, name="two")
    new, count = changed(mx.sym.Group([two, relu]))
    graph = Graph(new, {})
    assert count == 2
    (one, two) = in_groups(graph)
    assert is_same_order(one.source())
    assert one.source().source().name == "relu"
    assert is_same_order(two.source())
    (relu, _) = graph.heads[1]
    assert relu.name == "relu"
    names = [node.name for node in graph.nodes()]
    assert len(set(names)) == len(names)
