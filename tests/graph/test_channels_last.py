from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from support.channels_last import compute_on_cpu
from support.small_networks import FAMILIES

import gluondense
from gluondense.graph.channels_last import use_channels_last
from gluondense.graph.ir import Graph
from gluondense.graph.mixed_precision import HALF_PRECISION, use_mixed_precision
from gluondense.graph.trace import trace


def run(symbol, arrays, x):
    """Return outputs, gradients and statistics after a training step in float64."""
    names = symbol.list_inputs()
    values = {name: mx.nd.array(arrays[name], dtype="float64") for name in names if name != "data"}
    values["data"] = mx.nd.array(x, dtype="float64")
    gradients = {name: mx.nd.zeros_like(values[name]) for name in symbol.list_arguments()}
    executor = symbol.bind(mx.cpu(), values, gradients, aux_states=values)
    outputs = executor.forward(is_train=True)
    executor.backward([mx.nd.ones_like(output) * 0.1 for output in outputs])
    mx.nd.waitall()  # MXNet does not know that backward writes the statistics
    statistics = {name: values[name].asnumpy() for name in symbol.list_auxiliary_states()}
    found = {name: gradient.asnumpy() for name, gradient in gradients.items()}
    return [output.asnumpy() for output in outputs], found, statistics


def compare(net, shape=(3, 3, 64, 64)):
    """Compare a network's graph with its NHWC graph; return the latter."""
    mx.random.seed(0)
    net.initialize(mx.init.Xavier(), force_reinit=True)
    symbol = trace(net)
    graph = Graph(symbol, {})
    assert use_channels_last(graph) > 0
    nhwc = mx.sym.load_json(graph.to_json())
    assert compute_on_cpu(graph) > 0
    arrays = {name: p.data().asnumpy() for name, p in net.collect_params().items()}
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = run(symbol, arrays, x)
    found = run(mx.sym.load_json(graph.to_json()), arrays, x)
    for before, after in zip(expected[0], found[0]):
        np.testing.assert_allclose(after, before, rtol=1e-9)
    for before, after in zip(expected[1:], found[1:]):
        assert before.keys() == after.keys()
        for name, value in before.items():
            scale = np.abs(value).max() + 1e-6
            np.testing.assert_allclose(after[name] / scale, value / scale, atol=1e-7, err_msg=name)
    return nhwc


OPTIONS = [
    ("densenet121", {}),
    ("densenet121", {"attention": "se", "use_bias": True, "dropout": 0.0}),
    ("densenet121", {"pool": "mean_max", "final_norm": False}),
    ("csp_densenet121", {"attention": "path"}),
    ("csp_densenet121", {"fusion": "both"}),
    ("dpn92", {}),
    ("csp_resnext50", {}),
    ("rdnet_tiny", {}),
]


@pytest.mark.parametrize(("name", "fields"), OPTIONS)
def test_outputs_gradients_and_statistics_are_those_of_nchw(name, fields):
    net = gluondense.get_model(name, classes=5, **FAMILIES[name], **fields)
    size = 256 if fields.get("pool") == "mean_max" else 64
    compare(net, (2, 3, size, size))


def parameter_of(node):
    """Return the variable that a node is a view of, if it is one."""
    while node.op in ("Reshape", "transpose"):
        node = node.source()
    return node if node.op == "null" and node.name != "data" else None


def feature_map_transposes(symbol):
    found = [node for node in Graph(symbol, {}).operators() if node.op == "transpose"]
    return [node.name for node in found if parameter_of(node) is None]


@pytest.mark.parametrize("name", [*FAMILIES, "densenetblur121d", "densenet264d"])
def test_feature_maps_are_transposed_where_a_network_begins_and_ends(name):
    """No operator between the convolutions falls back to NCHW."""
    graph = Graph(trace(gluondense.get_model(name, **FAMILIES.get(name, {}))), {})
    use_channels_last(graph)
    transposed = feature_map_transposes(mx.sym.load_json(graph.to_json()))
    assert transposed[0].startswith("data")
    assert len(transposed) <= 2, transposed


def test_parameters_keep_their_shapes_and_heads_are_nchw():
    net = gluondense.get_model("csp_resnext50", features_only=True, **FAMILIES["csp_resnext50"])
    symbol = trace(net)
    graph = Graph(symbol, {})
    use_channels_last(graph)
    nhwc = mx.sym.load_json(graph.to_json())
    for one in (symbol, nhwc):
        assert set(one.list_inputs()) == set(symbol.list_inputs())
    before, after = (one.infer_shape(data=(2, 3, 64, 64)) for one in (symbol, nhwc))
    assert before[1] == after[1]  # feature maps (N, C, H, W)
    expected = dict(zip(symbol.list_arguments(), before[0]))
    assert dict(zip(nhwc.list_arguments(), after[0])) == expected


def test_unknown_operators_compute_in_nchw():
    data = mx.sym.var("data")
    x = mx.sym.Convolution(data, kernel=(3, 3), num_filter=4, no_bias=True, name="conv")
    x = mx.sym.Dropout(x, axes=(2, 3), name="dropout")  # whole channels
    x = mx.sym.Reshape(mx.sym.InstanceNorm(x, name="norm"), shape=(0, 0, -1), name="reshape")
    graph = Graph(mx.sym.mean(x, axis=2, name="mean"), {})
    assert use_channels_last(graph) == 1
    symbol = mx.sym.load_json(graph.to_json())
    assert symbol.infer_shape(data=(2, 3, 8, 8))[1] == [(2, 4)]
    assert feature_map_transposes(symbol) == ["data_0_nhwc", "conv_0_nchw"]


def test_transposes_of_the_network_are_not_repeated():
    """As around a layer normalization over the channels: (N, H, W, C) is there already."""
    x = mx.sym.Convolution(mx.sym.var("data"), kernel=(1, 1), num_filter=4, name="conv1")
    last = mx.sym.transpose(x, axes=(0, 2, 3, 1), name="to_last")
    last = mx.sym.LayerNorm(last, name="norm")
    x = x + mx.sym.transpose(last, axes=(0, 3, 1, 2), name="back")
    symbol = mx.sym.Convolution(x, kernel=(1, 1), num_filter=2, name="conv2")
    graph = Graph(symbol, {})
    use_channels_last(graph)
    nhwc = mx.sym.load_json(graph.to_json())
    assert feature_map_transposes(nhwc) == ["data_0_nhwc", "conv2_0_nchw"]
    rng = np.random.default_rng(0)
    shapes = dict(zip(symbol.list_arguments(), symbol.infer_shape(data=(2, 3, 5, 4))[0]))
    arrays = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    compute_on_cpu(graph)
    expected = run(symbol, arrays, arrays["data"])
    found = run(mx.sym.load_json(graph.to_json()), arrays, arrays["data"])
    np.testing.assert_allclose(found[0][0], expected[0][0], rtol=1e-9)
    for name, value in expected[1].items():
        np.testing.assert_allclose(found[1][name], value, rtol=1e-9, atol=1e-12, err_msg=name)


def test_parameters_that_are_too_small_for_float16_stay_in_float32():
    """Layer scale begins at 1e-6; its view is transposed here."""
    graph = Graph(trace(gluondense.get_model("rdnet_tiny", **FAMILIES["rdnet_tiny"])), {})
    use_channels_last(graph)
    use_mixed_precision(graph, "float16")
    readers = graph.readers()
    halved = [node for node in graph.operators() if node.is_like("amp_cast", dtype="float16")]
    views = [node for node in halved if parameter_of(node.source()) is not None]
    assert views
    assert {reader.op for node in views for reader in readers[id(node)]} <= HALF_PRECISION
