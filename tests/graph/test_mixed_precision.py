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


def _kind(node):
    if node.op == "amp_cast":
        return node.attrs["dtype"]
    return {"null": "float32"}.get(node.op, "float16")
