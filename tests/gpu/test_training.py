"""Training on GPUs: recomputation, half precision, several devices."""

from __future__ import annotations

import os

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from support.device_memory import peak_mb
from support.reference import assert_close
from support.training_steps import batch, network

from gluondense import get_model
from gluondense.training import TrainStep
from gluondense.training.precision import DynamicLossScale

pytestmark = pytest.mark.gpu


def trained(net, contexts, steps, dtype="float32", **options):
    """Train on the same batch, split over the contexts; return the losses of all images."""
    trainer = gluon.Trainer(
        net.collect_params(), "nag", {"learning_rate": 0.02, "momentum": 0.9}, kvstore="device"
    )
    trainer.save_states(os.devnull)  # starts the store, see Workers.init_kvstore
    step = TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss(), dtype=dtype, **options)
    x, y = batch(net, images=8)
    parts = [gluon.utils.split_and_load(value, contexts) for value in (x, y)]
    losses = []
    for _ in range(steps):
        loss, _ = step(*parts)
        trainer.step(len(x))
        losses.append(np.concatenate([part.asnumpy() for part in loss]))
    return losses


def values(net, context):
    mx.nd.waitall()  # MXNet's backward updates running statistics without declaring it
    return {name: p.data(context).asnumpy() for name, p in net.collect_params().items()}


@pytest.fixture
def half(on_cpu):
    """The half precision of the device."""
    return "bfloat16" if on_cpu else "float16"


@pytest.mark.parametrize("name", ["dense", "csp", "dpn", "csp-resnet"])
def test_memory_efficient_training_is_the_same_over_20_steps(name, gpu):
    """A second update of the running statistics in each step would change them by a tenth."""
    found = []
    for memory_efficient in (False, True):
        net = network(name, memory_efficient, ctx=gpu)
        losses = trained(net, [gpu], 20)
        found.append((losses, values(net, gpu)))
    (losses, parameters), (others, recomputed) = found
    assert losses[-1].mean() < 0.7 * losses[0].mean()
    # Some of cuDNN's gradients add in any order, so the runs may differ by rounding.
    assert_close(np.array(others), np.array(losses), 2e-2)
    for key, value in parameters.items():
        assert_close(recomputed[key], value, 2e-2)


def test_memory_efficient_training_takes_less_memory(gpu, on_cpu):
    def peak(memory_efficient):
        net = get_model("densenet121", memory_efficient=memory_efficient)
        net.initialize(ctx=gpu)
        step = TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss())
        x, y = mx.nd.ones((8, 3, 96, 96), ctx=gpu), mx.nd.zeros((8,), ctx=gpu)
        return peak_mb(lambda: step(x, y), on_cpu)

    assert peak(True) < 0.7 * peak(False)


def test_half_precision_follows_float32(gpu, half):
    losses = {}
    for dtype in ("float32", half):
        losses[dtype] = np.array(trained(network("dense", False, ctx=gpu), [gpu], 5, dtype))
    assert_close(losses[half].mean(axis=1), losses["float32"].mean(axis=1), 0.1)
    assert losses[half].mean(axis=1)[-1] < losses[half].mean(axis=1)[0]


def test_an_overflow_skips_the_step_and_halves_the_loss_scale(gpu, half):
    net = network("dense", False, ctx=gpu)
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
    step = TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss(), dtype=half)
    x, y = (value.as_in_context(gpu) for value in batch(net))
    scale = DynamicLossScale(value=2.0**10)
    step(x, y, float("inf"))
    before = net.output.weight.data(gpu).asnumpy()
    assert not scale.step(trainer, len(x))
    assert scale.value == 2.0**9
    assert np.array_equal(net.output.weight.data(gpu).asnumpy(), before)
    step(x, y, scale.value)
    assert scale.step(trainer, len(x))
    assert not np.array_equal(net.output.weight.data(gpu).asnumpy(), before)


@pytest.mark.parametrize("dtype", ["float32", "half"])
def test_sync_bn_on_two_devices_is_one_device(dtype, two_gpus, half):
    dtype = half if dtype == "half" else dtype
    one, two = (network("narrow", False, ctx=contexts) for contexts in (two_gpus[:1], two_gpus))
    alone = trained(one, two_gpus[:1], 3, dtype)
    both = trained(two, two_gpus, 3, dtype, sync_bn=True)
    tolerance = 1e-3 if dtype == "float32" else 0.1
    assert_close(np.array(both), np.array(alone), tolerance)
    for name, value in values(two, two_gpus[1]).items():
        if "running" in name:
            assert_close(value, values(one, two_gpus[0])[name], tolerance)


def test_two_devices_have_the_gradient_of_the_batch(two_gpus):
    """Two parts one after the other on a device, or one on each with the key-value store."""
    one, two = (network("dense", False, ctx=contexts) for contexts in (two_gpus[:1], two_gpus))
    alone = trained(one, two_gpus[:1], 3, accumulate=2)
    both = trained(two, two_gpus, 3)
    assert_close(np.array(both), np.array(alone), 1e-3)
    first, second = (values(two, context) for context in two_gpus)
    for name, value in values(one, two_gpus[0]).items():
        if "running" not in name:
            assert np.array_equal(first[name], second[name]), name
            assert_close(first[name], value, 1e-3)


def test_the_masks_of_dropout_follow_the_seed(gpu):
    net = network("dropout", False, ctx=gpu)
    x, found = batch(net)[0].as_in_context(gpu), []
    for seed in (1, 1, 2):
        mx.random.seed(seed)
        with autograd.train_mode():
            found.append(net(x).asnumpy())
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()
