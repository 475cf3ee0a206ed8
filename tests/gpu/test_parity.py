"""Each family computes on a GPU what it computes on the CPU: logits, statistics, gradients."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon
from support.reference import assert_close
from support.small_networks import FAMILIES

from gluondense import get_model, list_models
from gluondense.training import TrainStep

pytestmark = pytest.mark.gpu

# One of the paper's or library's own depth in each family; all of them take minutes.
FULL = ("densenet121", "csp_densenet121", "csp_resnext50", "dpn68b")


def networks_on(model, settings, contexts, **fields):
    """The same network, of the same weights, on each context."""
    first = get_model(model, **{"classes": 7, **settings}, **fields)
    mx.random.seed(1)
    first.initialize(ctx=contexts[0])
    weights = {name: value.data() for name, value in first.collect_params().items()}
    nets = [first]
    for context in contexts[1:]:
        net = get_model(model, **{"classes": 7, **settings}, **fields)
        net.initialize(ctx=context)
        for name, value in net.collect_params().items():
            value.set_data(weights[name].as_in_context(context))
        nets.append(net)
    return nets


def images(net, count=4, size=64):
    shape = (count, net.spec.in_channels, size, size)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def train_step(net, context, x):
    labels = mx.nd.array(np.arange(len(x)) % net.spec.classes, ctx=context)
    step = TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss())
    loss, _ = step(mx.nd.array(x, ctx=context), labels)
    return loss.asnumpy()


def compare_training(model, settings, gpu, **fields):
    cpu_net, gpu_net = networks_on(model, settings, [mx.cpu(0), gpu], **fields)
    x = images(cpu_net)
    assert_close(train_step(gpu_net, gpu, x), train_step(cpu_net, mx.cpu(0), x), 1e-4)
    mx.nd.waitall()
    found = gpu_net.collect_params()
    for name, parameter in cpu_net.collect_params().items():
        if parameter.grad_req != "null":
            assert_close(found[name].grad(), parameter.grad().asnumpy(), 2e-3)
        elif "running" in name:
            # cuDNN's running variance is the unbiased one, of 16 values or more here.
            tolerance = 2e-2 if name.endswith("var") else 1e-4
            assert_close(found[name].data(), parameter.data().asnumpy(), tolerance)


@pytest.mark.parametrize("model", FAMILIES)
def test_logits(model, gpu):
    cpu_net, gpu_net = networks_on(model, FAMILIES[model], [mx.cpu(0), gpu])
    x = images(cpu_net)
    on_gpu = gpu_net(mx.nd.array(x, ctx=gpu))
    assert on_gpu.context == gpu
    assert_close(on_gpu, cpu_net(mx.nd.array(x)).asnumpy(), 1e-4)


@pytest.mark.parametrize("memory_efficient", [False, True])
@pytest.mark.parametrize("model", FAMILIES)
def test_gradients_and_statistics(model, memory_efficient, gpu):
    compare_training(model, FAMILIES[model], gpu, memory_efficient=memory_efficient)


@pytest.mark.parametrize("field", [{"attention": "se"}, {"attention": "path"}])
def test_attention(field, gpu):
    compare_training("csp_densenet121", FAMILIES["csp_densenet121"], gpu, **field)


@pytest.mark.slow
@pytest.mark.parametrize("model", FULL)
def test_networks_of_full_depth(model, gpu):
    assert model in list_models()
    cpu_net, gpu_net = networks_on(model, {}, [mx.cpu(0), gpu])
    x = images(cpu_net, 2, 96)
    assert_close(gpu_net(mx.nd.array(x, ctx=gpu)), cpu_net(mx.nd.array(x)).asnumpy(), 1e-3)
