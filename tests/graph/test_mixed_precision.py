from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon
from support.training_steps import NETWORKS, batch, network

from gluondense.graph.ir import Graph
from gluondense.graph.mixed_precision import use_mixed_precision
from gluondense.graph.sync_batch_norm import use_sync_batch_norm
from gluondense.training import TrainStep


def gradients(name, memory_efficient, dtype):
    net = network(name, memory_efficient)
    step = TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss(), dtype=dtype)
    loss, output = step(*batch(net, 8))
    assert output.dtype == np.float32
    parameters = net.collect_params(".*(weight|bias|gamma|beta)$").values()
    found = [parameter.grad().asnumpy() for parameter in parameters]
    assert {value.dtype for value in found} == {np.dtype(np.float32)}
    return loss.asnumpy(), np.concatenate([value.ravel() for value in found])


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"csp-resnet"}))
@pytest.mark.parametrize("memory_efficient", [False, "most"])
def test_bfloat16_gives_nearly_the_gradients_of_float32(name, memory_efficient):
    loss, rounded = gradients(name, memory_efficient, "bfloat16")
    exact_loss, exact = gradients(name, memory_efficient, "float32")
    assert (rounded != exact).any()
    np.testing.assert_allclose(loss, exact_loss, rtol=0.1, atol=0.1)
    cosine = rounded @ exact / np.linalg.norm(rounded) / np.linalg.norm(exact)
    assert cosine > 0.85  # DPN 0.90, the others 0.96 and more


def test_only_products_are_lowered_and_parameters_are_cast():
    net = network("se", False)
    (_,), symbol = net._get_graph(mx.nd.zeros((1, 3, 64, 64)))
    graph = Graph(symbol, {})
    use_mixed_precision(graph, "float16")
    for node in graph.operators():
        if node.op in ("Convolution", "FullyConnected", "Concat", "broadcast_mul"):
            assert all(_kind(source) == "float16" for source, _ in node.inputs), node.name
        if node.op == "BatchNorm":
            assert all(source.op == "null" for source, _ in node.inputs[1:])
    assert [_kind(node) for node, _ in graph.heads] == ["float32"]


def test_synchronized_batch_normalization_computes_in_float32():
    graph = Graph(network("csp", False)._get_graph(mx.nd.zeros((1, 3, 64, 64)))[1], {})
    use_sync_batch_norm(graph, devices=2)
    use_mixed_precision(graph, "float16")
    normalized = [node for node in graph.operators() if node.op == "_contrib_SyncBatchNorm"]
    assert len(normalized) > 5
    assert {node.source().attrs.get("dtype") for node in normalized} == {"float32"}
    readers = graph.readers()
    found = [reader.attrs.get("dtype") for node in normalized for reader in readers[id(node)]]
    assert set(found) == {"float16"}


def test_layer_normalization_and_layer_scale_compute_in_float32():
    x = mx.sym.Convolution(mx.sym.var("data"), kernel=(1, 1), num_filter=4, name="conv1")
    x = mx.sym.transpose(x, axes=(0, 2, 3, 1))
    x = mx.sym.transpose(mx.sym.LayerNorm(x, name="norm"), axes=(0, 3, 1, 2))
    x = mx.sym.Convolution(x, kernel=(1, 1), num_filter=4, name="conv2")
    factor = mx.sym.reshape(mx.sym.var("factor", shape=(4,)), shape=(1, -1, 1, 1))
    x = mx.sym.concat(x, mx.sym.broadcast_mul(x, factor, name="scaled"), dim=1, name="features")
    graph = Graph(x, {})
    use_mixed_precision(graph, "float16")
    inputs = {node.name: [source for source, _ in node.inputs] for node in graph.operators()}
    for name, dtype in (("norm", "float32"), ("scaled", "float32"), ("conv2", "float16")):
        assert inputs[name][0].attrs.get("dtype", "float16") == dtype, name
    assert not any(source.op == "amp_cast" for source in inputs["norm"][1:])
    assert inputs["scaled"][1].op == "Reshape"
    assert inputs["features"][0].op == "Convolution"  # in float16
    assert inputs["features"][1].attrs["dtype"] == "float16"


def _kind(node):
    if node.op == "amp_cast":
        return node.attrs["dtype"]
    return {"null": "float32"}.get(node.op, "float16")
