from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon
from support.training_steps import batch, network

from gluondense.training import TrainConfig, TrainStep
from gluondense.training.optimizer import AdamW, gradient_norm, restore_states, states, update
from gluondense.training.precision import DynamicLossScale, LossScale

SHAPES = {"output.weight": (5, 7), "output.bias": (5,)}
DEVICES = [mx.cpu(0), mx.cpu(1)]


def gradients(step):
    rng = np.random.default_rng(step)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def dense(ctx=None):
    net = gluon.nn.Dense(5, in_units=7)
    net.initialize(mx.init.One(), ctx=ctx)
    return net


def adamw(net, **settings):
    settings = {"learning_rate": 0.01, "wd": 0.1, **settings}
    return gluon.Trainer(net.collect_params(), "adamw", settings, update_on_kvstore=False)


def set_gradients(net, step, factor=1.0):
    for name, value in gradients(step).items():
        parameter = getattr(net, name.split(".")[1])
        for array, grad in zip(parameter.list_data(), parameter.list_grad()):
            grad[:] = value * factor / len(parameter.list_data())
            array._fresh_grad = True


def torch_weights(steps, clip=None, **settings):
    torch = pytest.importorskip("torch")
    values = {name: torch.nn.Parameter(torch.ones(shape)) for name, shape in SHAPES.items()}
    values["output.bias"].data.zero_()
    optimizer = torch.optim.AdamW(values.values(), lr=0.01, weight_decay=0.1, **settings)
    for step in range(steps):
        for name, value in gradients(step).items():
            values[name].grad = torch.tensor(value)
        if clip:
            torch.nn.utils.clip_grad_norm_(values.values(), clip)
        optimizer.step()
    return {name: value.detach().numpy() for name, value in values.items()}


def assert_weights(net, expected):
    for name, value in expected.items():
        for array in getattr(net, name.split(".")[1]).list_data():
            np.testing.assert_allclose(array.asnumpy(), value, rtol=2e-6, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("settings", [{}, {"betas": (0.7, 0.95), "eps": 0.1}])
def test_adamw_is_torchs(settings):
    net = dense()
    mine = {}
    if settings:
        (beta1, beta2), epsilon = settings["betas"], settings["eps"]
        mine = {"beta1": beta1, "beta2": beta2, "epsilon": epsilon}
    trainer = adamw(net, **mine)
    for step in range(20):
        set_gradients(net, step, factor=8)
        trainer.step(8)
    assert_weights(net, torch_weights(20, **settings))


@pytest.mark.parametrize("clip", [0.5, 6.0, 1000.0])
@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_clipping_is_torchs_on_two_devices_and_under_a_loss_scale(clip, scale):
    net = dense(DEVICES)
    trainer = adamw(net)
    loss_scale = LossScale() if scale == 1 else DynamicLossScale(scale)
    for step in range(10):
        set_gradients(net, step, factor=4 * scale)
        assert loss_scale.step(trainer, 4, clip=clip)
    assert_weights(net, torch_weights(10, clip=clip))


def test_norm_is_of_all_gradients_after_the_sum_over_devices():
    net = dense(DEVICES)
    trainer = adamw(net)
    set_gradients(net, 0)
    update(trainer, 1.0, clip=1.0)
    flat = np.concatenate([value.ravel() for value in gradients(0).values()])
    assert gradient_norm(trainer) == pytest.approx(np.linalg.norm(flat), rel=1e-6)


def test_clipping_takes_the_trained_parameters_only():
    results = []
    for frozen in (False, True):
        net = network("dense", False)
        if frozen:
            net.features.collect_params().setattr("grad_req", "null")
        trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
        x, y = batch(net)
        TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss())(x, y)
        results.append(gradient_norm(trainer))
        update(trainer, len(x), clip=0.1)
    assert results[1] < results[0]


def test_states_and_numbers_of_updates_come_back(tmp_path):
    straight, before, after = dense(DEVICES), dense(DEVICES), dense(DEVICES)
    trainers = [adamw(net) for net in (straight, before, after)]
    for step in range(6):
        set_gradients(straight, step)
        trainers[0].step(1)
        if step < 3:
            set_gradients(before, step)
            trainers[1].step(1)
    before.save_parameters(str(tmp_path / "w"))
    mx.nd.save(str(tmp_path / "s"), states(trainers[1]))
    after.load_parameters(str(tmp_path / "w"), ctx=DEVICES)
    restore_states(trainers[2], mx.nd.load(str(tmp_path / "s")))
    for step in range(3, 6):
        set_gradients(after, step)
        trainers[2].step(1)
    for name in ("weight", "bias"):
        pairs = zip(getattr(straight, name).list_data(), getattr(after, name).list_data())
        for one, other in pairs:
            np.testing.assert_array_equal(one.asnumpy(), other.asnumpy())


def test_adamw_is_registered_once():
    assert type(mx.optimizer.create("adamw", learning_rate=0.1)) is AdamW


@pytest.mark.parametrize("fields", [{"clip": 1.0}, {"optimizer": "adamw"}, {"head_epochs": 1}])
def test_servers_that_update_take_no_clipping_no_adamw_and_no_head_epochs(fields):
    with pytest.raises(ValueError, match="doesn't work with kvstore dist_async"):
        TrainConfig.of("densenet121", kvstore="dist_async", **fields)
