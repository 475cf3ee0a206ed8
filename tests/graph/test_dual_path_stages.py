"""Which dual-path stages of a training graph the native operator trains."""

from __future__ import annotations

import mxnet as mx
import pytest

from gluondense.blocks.dual_path import DualPathStage
from gluondense.graph.dual_path_stages import dual_path_stages
from gluondense.graph.ir import Graph
from gluondense.graph.trace import trace
from gluondense.models.registry import build_model


def found(symbol):
    return [stage.to_node() for stage in dual_path_stages(Graph(symbol, {}))]


def stage(x, blocks=2, **options):
    """Return a stage of 16 residual channels to which each block appends 8."""
    sizes = {"bottleneck_width": 32, "residual_width": 16, "increment": 8, "groups": 8}
    return DualPathStage(24, blocks, **{**sizes, "prefix": "stage_", **options})(x)


@pytest.mark.parametrize("name", ["dpn48b", "dpn68", "dpn92", "dpn107", "dpn92_listing"])
def test_all_stages_of_a_network(name):
    net = build_model(name)
    nodes = found(trace(net))
    assert [int(node.attrs["blocks"]) for node in nodes] == list(net.spec.num_blocks)
    assert [int(node.attrs["increment"]) for node in nodes] == list(net.spec.increments)
    assert [node.attrs["stride"] for node in nodes] == ["1", "2", "2", "2"]
    assert {node.attrs["groups"] for node in nodes} == {str(net.spec.groups)}


def test_attributes_and_parameters():
    (node,) = found(stage(mx.sym.var("data"), blocks=3, strides=2))
    assert node.attrs == {
        "blocks": "3",
        "stride": "2",
        "bottleneck": "32",
        "groups": "8",
        "residual": "16",
        "increment": "8",
        "eps": "0.001",
        "momentum": "0.9",
    }
    names = [entry.name for entry, _ in node.inputs]
    assert names[0] == "data"
    assert names[1:7] == [
        "stage_block1_projection_norm_gamma",
        "stage_block1_projection_norm_beta",
        "stage_block1_projection_norm_running_mean",
        "stage_block1_projection_norm_running_var",
        "stage_block1_projection_conv_weight",
        "stage_block1_conv_a_norm_gamma",
    ]
    assert names[-1] == "stage_block3_conv_c_conv_weight"
    assert len(names) == 1 + 5 * (1 + 3 * 3)


@pytest.mark.parametrize(
    "options",
    [{"dropout": 0.1}, {"drop_path": (0, 0.1)}, {"attention": "se"}, {"strides": 3}],
    ids=str,
)
def test_other_blocks_are_left_to_mxnet(options):
    assert found(stage(mx.sym.var("data"), **options)) == []


def test_stages_with_other_readers_are_left_to_mxnet():
    symbol = stage(mx.sym.var("data"))
    internals = symbol.get_internals()
    operators = [n for n in internals.list_outputs() if n.endswith("_output")]
    inside = [n for n in operators if n != symbol.list_outputs()[0]]
    assert len(inside) > 30
    for name in inside:
        assert found(mx.sym.Group([internals[name], symbol])) == []
    assert len(found(mx.sym.Group([symbol, symbol * 2]))) == 1


def test_two_stages():
    first = stage(mx.sym.var("data"))
    nodes = found(stage(first, prefix="next_"))
    assert [node.inputs[0][0].name for node in nodes] == ["data", nodes[0].name]
