"""Which stages of residual blocks in a training graph the native operator trains."""

from __future__ import annotations

import mxnet as mx
import pytest

from gluondense.blocks.residual import CSPResidualStage
from gluondense.graph.ir import Graph
from gluondense.graph.residual_stages import residual_stages
from gluondense.graph.trace import trace
from gluondense.models.registry import build_model


def found(symbol):
    return [stage.to_node() for stage in residual_stages(Graph(symbol, {}))]


def images():
    """Return feature maps of 16 channels."""
    return mx.sym.Convolution(mx.sym.var("data"), kernel=(1, 1), num_filter=16, name="stem")


def stage(x, blocks=2, **options):
    """Return a stage from 16 to 48 channels, of 32 channels in its blocks."""
    sizes = {"expand_ratio": 4 / 3, "groups": 8, "slope": 0.01, "bottleneck_ratio": 0.75}
    return CSPResidualStage(16, 48, blocks, **{**sizes, "prefix": "stage_", **options})(x)


def test_all_stages_of_a_network():
    net = build_model("csp_resnext50")
    nodes = found(trace(net))
    assert [int(node.attrs["blocks"]) for node in nodes] == list(net.spec.num_blocks)
    assert [int(node.attrs["out_channels"]) for node in nodes] == list(net.spec.widths)
    assert [node.attrs["stride"] for node in nodes] == ["1", "2", "2", "2"]
    assert {node.attrs["groups"] for node in nodes} == {"32"}
    assert {node.attrs["slope"] for node in nodes} == {"0.01"}


def test_attributes_and_parameters():
    (node,) = found(stage(images(), blocks=3, strides=2))
    assert node.attrs == {
        "stride": "2",
        "expanded": "64",
        "bypass": "32",
        "blocks": "3",
        "bottleneck": "24",
        "groups": "8",
        "out_channels": "48",
        "slope": "0.01",
        "eps": "1e-05",
        "momentum": "0.9",
    }
    names = [entry.name for entry, _ in node.inputs]
    assert names[0] == "stem"
    assert names[1:7] == [
        "stage_down_conv_weight",
        "stage_down_norm_gamma",
        "stage_down_norm_beta",
        "stage_down_norm_running_mean",
        "stage_down_norm_running_var",
        "stage_expand_conv_weight",
    ]
    assert names[-5] == "stage_transition_conv_weight"
    assert len(names) == 1 + 5 * (2 + 3 * 3 + 2)


@pytest.mark.parametrize(
    ("options", "slope"), [({"slope": 0.0}, "0.0"), ({"slope": 0.25}, "0.25")], ids=str
)
def test_slopes(options, slope):
    (node,) = found(stage(images(), **options))
    assert node.attrs["slope"] == slope


def test_a_convolution_that_widens_is_left_to_mxnet():
    (node,) = found(stage(images(), strides=2, widen_down=True))
    assert node.attrs["stride"] == "1"
    assert node.inputs[0][0].op == "LeakyReLU"


@pytest.mark.parametrize(
    "options",
    [
        {"dropout": 0.1},
        {"drop_path": (0, 0.1)},
        {"attention": "se"},
        {"attention": "path"},
        {"groups": 1},
        {"expand_act": True},
    ],
    ids=str,
)
def test_other_blocks_are_left_to_mxnet(options):
    assert found(stage(images(), **options)) == []


@pytest.mark.parametrize("name", ["csp_resnet50", "csp_darknet53", "dpn68", "densenet121"])
def test_other_networks_are_left_to_mxnet(name):
    assert found(trace(build_model(name))) == []


def test_stages_with_other_readers_are_left_to_mxnet():
    symbol = stage(images())
    internals = symbol.get_internals()
    operators = [n for n in internals.list_outputs() if n.endswith("_output")]
    inside = [n for n in operators if n not in (symbol.list_outputs()[0], "stem_output")]
    assert len(inside) > 25
    for name in inside:
        assert found(mx.sym.Group([internals[name], symbol])) == [], name
    assert len(found(mx.sym.Group([symbol, symbol * 2]))) == 1


def test_a_read_down_convolution_is_left_to_mxnet():
    symbol = stage(images(), strides=2)
    down = symbol.get_internals()["stage_down_relu_fwd_output"]
    (node,) = found(mx.sym.Group([down, symbol]))
    assert node.attrs["stride"] == "1"


def test_two_stages():
    first = stage(images())
    second = CSPResidualStage(48, 64, 1, strides=2, groups=8, prefix="next_")(first)
    nodes = found(second)
    assert [node.inputs[0][0].name for node in nodes] == ["stem", nodes[0].name]
    assert [node.attrs["stride"] for node in nodes] == ["1", "2"]
