from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon
from support.training_steps import batch, network
from support.training_tiny import TINY

from gluondense.training import TrainStep, fit
from gluondense.training.checkpoint import load
from gluondense.training.precision import (
    GROWTH_INTERVAL,
    DynamicLossScale,
    LossScale,
    _finite,
    check_dtype,
    in_precision,
)


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


def test_evaluation_in_the_precision_of_training():
    # float16 needs a GPU; the casts of bfloat16 are made by the same pass.
    net, x = network("csp", False), mx.nd.random.normal(shape=(2, 3, 64, 64))
    assert in_precision(net, "float32") is net
    block = in_precision(net, "bfloat16")
    for _ in range(2):
        rounded, exact = block(x), net(x).asnumpy()
        assert rounded.dtype == np.float32
        assert (rounded.asnumpy() != exact).any()
        np.testing.assert_allclose(rounded.asnumpy(), exact, rtol=0, atol=0.03 * abs(exact).max())
        # The parameters are the network's, as the moving average sets them.
        net.output.weight.set_data(2 * net.output.weight.data())
    assert all(block.params.get(name) is p for name, p in net.collect_params().items())


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"native": False}, "`native` is off"),
        (
            {"model": "csp_resnet50", "model_args": {}, "resize": 64},
            "the native operator trains no part of this network",
        ),
    ],
    ids=str,
)
@pytest.mark.usefixtures("native_operator")
def test_bfloat16_without_native_stages_is_mxnets_and_it_is_said(fields, reason, tmp_path, capsys):
    config = TINY.with_fields(dtype="bfloat16", max_steps=1, **fields)
    assert fit(config, tmp_path, progress=False).step == 1
    message = f"bfloat16 in MXNet's operators is slower than float32: {reason}"
    assert message in capsys.readouterr().out


@pytest.mark.gpu
def test_a_run_in_float16_is_evaluated_in_float16(gpu, tmp_path, request):
    if request.config.getoption("--gpu-tests-on-cpu"):
        pytest.skip("MXNet has no float16 convolutions for CPUs")
    result = fit(TINY.with_fields(dtype="float16", gpus=(0,)), tmp_path, progress=False)
    assert np.isfinite(result.last["test_loss"])
    net = load(tmp_path).network([gpu])
    x = mx.nd.random.normal(shape=(8, net.spec.in_channels, 32, 32), ctx=gpu)
    rounded, exact = in_precision(net, "float16")(x).asnumpy(), net(x).asnumpy()
    assert (rounded != exact).any()
    np.testing.assert_allclose(rounded, exact, rtol=0, atol=0.01 * abs(exact).max())


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


@pytest.mark.parametrize("last", [0.0, float("inf"), float("nan")])
def test_overflow_is_found_in_any_of_many_gradients(last):
    parameters = gluon.ParameterDict()
    for number in range(701):  # MXNet's operator takes 200, and aborts the process for more
        parameters.get(f"weight{number}", shape=(2,), init="zeros")
    parameters.initialize()
    for parameter in parameters.values():
        parameter.grad()[:] = 1
    trainer = gluon.Trainer(parameters, "sgd", {"learning_rate": 0.1})
    for position in (0, 199, 200, 399, 600, 700):
        grad = list(parameters.values())[position].grad()
        grad[1] = last
        assert _finite(trainer) == (last == 0)
        grad[:] = 1


def test_scale_grows_after_many_good_steps():
    net = network("dense", False)
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
    scale = DynamicLossScale(2.0, GROWTH_INTERVAL - 1)
    TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss())(*batch(net), scale=scale.value)
    assert scale.step(trainer, 4)
    assert (scale.value, scale.good_steps) == (4.0, 0)
