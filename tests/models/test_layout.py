from __future__ import annotations

import json

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from support.channels_last import compute_on_cpu
from support.reference import assert_close
from support.small_networks import FAMILIES

import gluondense
from gluondense.graph.channels_last import use_channels_last
from gluondense.graph.recompute import MARK
from gluondense.graph.trace import portable_json, trace
from gluondense.models import channels_last as module
from gluondense.models.network import Network
from gluondense.training.step import TrainStep


def make(layout="NHWC", name="densenet121", **fields):
    mx.random.seed(3)
    net = gluondense.get_model(name, classes=5, layout=layout, **FAMILIES[name], **fields)
    net.initialize()
    return net


@pytest.fixture
def nhwc_on_cpu(monkeypatch):
    """Let inputs on a CPU take the graph of float16 on a GPU."""
    monkeypatch.setattr(Network, "is_channels_last", lambda net, x: net.spec.layout == "NHWC")

    def use(graph):
        count = use_channels_last(graph)
        assert compute_on_cpu(graph) > 0
        return count

    monkeypatch.setattr(module, "use_channels_last", use)


def gradients(net, x):
    with autograd.record():
        output = net(x)
    output.backward()
    found = {name: p.grad().asnumpy() for name, p in net.collect_params(".*weight").items()}
    return output.asnumpy(), found


def test_a_network_trains_and_predicts_in_either_layout(nhwc_on_cpu, tmp_path):
    nets = [make("NCHW"), make()]
    nets[0].save_parameters(str(tmp_path / "net.params"))
    nets[1].load_parameters(str(tmp_path / "net.params"))  # one file for both
    x = mx.nd.random.normal(shape=(2, 3, 64, 64))
    (expected, ours), (found, theirs) = (gradients(net, x) for net in nets)
    assert list(nets[1]._ops) == ["_nhwc_graph"]
    assert not nets[0]._ops
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert {name: value.shape for name, value in theirs.items()} == {
        name: value.shape for name, value in ours.items()
    }
    name = "densenet121_output_weight"
    np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(nets[1](x).asnumpy(), nets[0](x).asnumpy(), rtol=1e-3, atol=1e-4)
    assert portable_json(trace(nets[1])) == portable_json(trace(nets[0]))  # as exports are made


def test_arrays_that_move_get_a_new_graph(nhwc_on_cpu):
    net = make()
    x = mx.nd.random.normal(shape=(2, 3, 64, 64))
    gradients(net, x)
    net.collect_params().reset_ctx(mx.cpu(1))
    output, found = gradients(net, x.as_in_context(mx.cpu(1)))
    assert np.isfinite(output).all()
    assert all(np.abs(gradient).max() > 0 for gradient in found.values())


def test_cpus_and_float32_compute_in_nchw():
    net = make()
    x = mx.nd.zeros((1, 3, 64, 64))
    assert not net.is_channels_last(x)
    assert not net.is_channels_last(x.astype("float16"))
    net(x)
    assert not net._ops


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_the_training_step_follows_the_layout_in_float16(layout):
    net = make(layout, memory_efficient="most")
    x = mx.nd.zeros((2, 3, 64, 64))
    for dtype in ("float32", "bfloat16", "float16"):
        step = TrainStep(net, gluon.loss.L2Loss(), dtype=dtype)
        nodes = json.loads(step._graph(x, 1)[1].tojson())["nodes"]
        convs = [node["attrs"].get("layout") for node in nodes if node["op"] == "Convolution"]
        last = layout == "NHWC" and dtype == "float16"
        assert set(convs) == {"NHWC" if last else "NCHW"}
        norms = [node["attrs"] for node in nodes if node["op"] == "BatchNorm"]
        assert {norm["axis"] for norm in norms} == {"3" if last else "1"}
        assert any(MARK in norm for norm in norms)


def test_an_unknown_layout_is_refused():
    with pytest.raises(ValueError, match=r"layout \(='CHWN'\)"):
        gluondense.get_spec("densenet121", layout="CHWN")


@pytest.mark.gpu
@pytest.mark.parametrize("name", FAMILIES)
def test_float16_on_a_gpu_gives_the_logits_of_nchw(name, gpu, on_cpu):
    if on_cpu:
        pytest.skip("MXNet has no float16 convolutions for CPUs")
    nets = [make(layout, name) for layout in ("NCHW", "NHWC")]
    x = mx.nd.random.normal(shape=(4, 3, 64, 64), ctx=gpu, dtype="float16")
    found = []
    for net in nets:
        net.collect_params().reset_ctx(gpu)
        net.cast("float16")
        found.append(net(x).asnumpy().astype(np.float32))
    assert list(nets[1]._ops) == ["_nhwc_graph"]
    assert_close(found[1], found[0], 2e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("memory_efficient", [False, True])
def test_a_float16_training_step_on_a_gpu_gives_the_gradients_of_nchw(
    memory_efficient, gpu, on_cpu
):
    if on_cpu:
        pytest.skip("MXNet has no float16 convolutions for CPUs")
    x = mx.nd.random.normal(shape=(8, 3, 64, 64), ctx=gpu)
    labels, found = mx.nd.arange(8, ctx=gpu) % 5, []
    for layout in ("NCHW", "NHWC"):
        net = make(layout, memory_efficient=memory_efficient)
        net.collect_params().reset_ctx(gpu)
        step = TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss(), dtype="float16")
        loss, _ = step(x, labels, 64.0)
        found.append((loss.asnumpy(), net.output.weight.grad().asnumpy()))
    for after, before in zip(found[1], found[0]):
        assert_close(after, before, 5e-2)
