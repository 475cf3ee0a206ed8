from __future__ import annotations

import os

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon
from support.training_steps import NETWORKS, batch, network

from gluondense.graph.ir import Graph
from gluondense.graph.mixed_precision import use_mixed_precision
from gluondense.training import TrainStep
from gluondense.training.precision import GROWTH_INTERVAL, DynamicLossScale, LossScale, check_dtype


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


def _kind(node):
    if node.op == "amp_cast":
        return node.attrs["dtype"]
    return {"null": "float32"}.get(node.op, "float16")


@pytest.mark.parametrize(
    ("dtype", "device", "message"),
    [
        ("float16", mx.cpu(), "`dtype` float16 needs GPUs"),
        ("bfloat16", mx.gpu(), "`dtype` bfloat16 is for CPUs"),
        (
            "float8",
            mx.cpu(),
            r"dtype \(='float8'\) must be one of 'float32', 'float16', 'bfloat16'",
        ),
    ],
)
def test_precision_that_a_device_lacks(dtype, device, message):
    with pytest.raises(ValueError, match=message):
        check_dtype(dtype, [device])


def test_float16_on_the_cpu_is_refused_before_it_computes():
    net = network("dense", False)
    with pytest.raises(ValueError, match="float16 needs GPUs"):
        TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss(), dtype="float16")(*batch(net))


def test_scaled_step_is_the_step():
    results = []
    for scale in (None, LossScale(), DynamicLossScale(1024.0)):
        net = network("dense", True)
        trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
        step, (x, y) = TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss()), batch(net)
        if scale is None:
            step(x, y)
            trainer.step(len(x))
        else:
            step(x, y, scale=scale.value)
            assert scale.step(trainer, len(x))
        results.append(net.output.weight.data().asnumpy())
    np.testing.assert_array_equal(*results[:2])
    np.testing.assert_allclose(*results[1:], rtol=1e-5, atol=1e-7)


def test_overflow_leaves_the_step_out_and_halves_the_scale():
    net = network("dense", False, ctx=[mx.cpu(0), mx.cpu(1)])
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
    x, y = batch(net, 2)
    parts = [gluon.utils.split_and_load(value, [mx.cpu(0), mx.cpu(1)]) for value in (x, y)]
    step, scale = TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss()), DynamicLossScale(256.0)
    step(*parts, scale=scale.value)
    before = net.output.weight.data(mx.cpu(0)).asnumpy()
    net.output.weight.grad(mx.cpu(1))[0, 0] = float("inf")
    assert not scale.step(trainer, 2)
    np.testing.assert_array_equal(net.output.weight.data(mx.cpu(0)).asnumpy(), before)
    assert (scale.value, scale.good_steps) == (128.0, 0)
    step(*parts, scale=scale.value)
    assert not scale.step(trainer, 2, any_rank=lambda overflow: True)
    step(*parts, scale=scale.value)
    assert scale.step(trainer, 2)
    assert (scale.value, scale.good_steps) == (64.0, 1)


def test_scale_grows_after_many_good_steps():
    net = network("dense", False)
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
    scale = DynamicLossScale(2.0, GROWTH_INTERVAL - 1)
    TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss())(*batch(net), scale=scale.value)
    assert scale.step(trainer, 4)
    assert (scale.value, scale.good_steps) == (4.0, 0)


@pytest.mark.parametrize("memory_efficient", [False, True])
def test_two_devices_with_common_statistics_train_like_one(memory_efficient):
    results = []
    for devices in ([mx.cpu(0)], [mx.cpu(0), mx.cpu(1)]):
        net = network("dense", memory_efficient, ctx=devices)
        x, y = batch(net, 6, 64)
        trainer = gluon.Trainer(
            net.collect_params(), "nag", {"learning_rate": 0.02, "momentum": 0.9}
        )
        trainer.save_states(os.devnull)  # starts the store, see Workers.init_kvstore
        step = TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss(), sync_bn=True)
        losses = []
        for _ in range(4):
            parts = [gluon.utils.split_and_load(value, devices) for value in (x, y)]
            loss, _ = step(*parts)
            trainer.step(len(x))
            losses += [part.asnumpy() for part in loss]
        mx.nd.waitall()
        statistics = [
            p.data(devices[0]).asnumpy() for p in net.collect_params(".*running_mean").values()
        ]
        results.append((np.concatenate(losses), statistics))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-4)
    for one, other in zip(results[0][1], results[1][1]):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
