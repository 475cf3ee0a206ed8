from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from support.training_steps import batch, network
from support.training_tiny import TINY

from gluondense.training import TrainStep, fit
from gluondense.training import run as run_module
from gluondense.training.distributed.workers import Workers
from gluondense.training.fine_tuning.freezing import Freezer, find_parameters, scale_rates
from gluondense.training.run import Run

PLAIN = {**TINY.model.args, "dropout": 0.0}
TUNED = TINY.with_fields(
    model_args=PLAIN, optimizer="adamw", lr=2e-3, clip=1.0, head_epochs=1, layer_decay=0.7
).with_fields(freeze=("features.stem", "features.stage1"), no_decay_bn=True, epochs=2)


def arrays(net):
    return {n: p.list_data()[0].asnumpy() for n, p in net._collect_params_with_prefix().items()}


def step(net, x, y):
    loss, _ = TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss())(x, y)
    mx.nd.waitall()
    return loss.asnumpy()


@pytest.mark.parametrize("memory_efficient", [False, True])
@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("name", ["dense", "csp", "dpn"])
def test_frozen_layers_stay_with_their_statistics(name, native, memory_efficient, request):
    net = network(name, memory_efficient)
    if native:
        request.getfixturevalue("native_operator")
        net.hybridize(backend="native", static_alloc=True, static_shape=True)
    x, y = batch(net)
    net(x).wait_to_read()
    before = arrays(net)
    freezer = Freezer(net, ("features.stem", "features.stage[12]"), head_epochs=0)
    assert freezer.start_epoch(0)
    assert not freezer.start_epoch(1)
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
    for _ in range(2):
        step(net, x, y)
        trainer.step(len(x))
    for name, value in arrays(net).items():
        frozen = name.startswith(("features.stem.", "features.stage1.", "features.stage2."))
        assert np.array_equal(value, before[name]) == frozen, name


def test_gradients_behind_a_frozen_layer_are_those_of_its_running_statistics():
    """They equal the gradients of a float32 graph in which the layer is in evaluation mode."""
    torch = pytest.importorskip("torch")
    mx.random.seed(0)
    net = gluon.nn.HybridSequential()
    net.add(gluon.nn.Conv2D(4, 3, in_channels=3, use_bias=False), gluon.nn.BatchNorm(in_channels=4))
    net.initialize(mx.init.Normal(0.5))
    net[1].running_mean.set_data(mx.nd.array([0.1, -0.2, 0.3, 0.0]))
    net[1].running_var.set_data(mx.nd.array([0.5, 1.5, 1.0, 2.0]))
    net[1].collect_params(".*(gamma|beta)").setattr("grad_req", "null")
    net[1]._kwargs["use_global_stats"] = True
    net.hybridize(static_alloc=True, static_shape=True)
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 6)).astype(np.float32)
    with autograd.record():
        loss = (net(mx.nd.array(x)) ** 2).sum()
    loss.backward()
    weight = torch.tensor(net[0].weight.data().asnumpy(), requires_grad=True)
    norm = torch.nn.BatchNorm2d(4).eval()
    norm.weight.data = torch.tensor(net[1].gamma.data().asnumpy())
    norm.running_mean[:] = torch.tensor(net[1].running_mean.data().asnumpy())
    norm.running_var[:] = torch.tensor(net[1].running_var.data().asnumpy())
    (norm(torch.nn.functional.conv2d(torch.tensor(x), weight)) ** 2).sum().backward()
    mine = net[0].weight.grad().asnumpy()
    np.testing.assert_allclose(mine, weight.grad.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("native", [False, True])
def test_gradients_do_not_change_where_only_convolutions_are_frozen(native, request):
    found = []
    for patterns in ((), ("features.stage1.*conv*",)):
        net = network("dense", False)
        if native:
            request.getfixturevalue("native_operator")
            net.hybridize(backend="native", static_alloc=True, static_shape=True)
        Freezer(net, patterns, head_epochs=0).start_epoch(0)
        x, y = batch(net)
        step(net, x, y)
        parameters = net._collect_params_with_prefix().items()
        found.append({n: p.grad().asnumpy() for n, p in parameters if p.grad_req != "null"})
    assert 0 < len(found[1]) < len(found[0])
    for name, value in found[1].items():
        np.testing.assert_allclose(value, found[0][name], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    "fields", [{}, {"accumulate": 2, "memory_efficient": True}, {"gpus": (0, 1)}], ids=str
)
def test_run_with_a_head_epoch_resumes_exactly(tmp_path, monkeypatch, fields):
    # The running statistics of several devices are saved as their mean.
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if "gpus" in fields else {"rtol": 0}
    if "gpus" in fields:
        monkeypatch.setattr(run_module, "find_devices", lambda gpus: [mx.cpu(0), mx.cpu(1)])
    config = TUNED.with_fields(**{name: v for name, v in fields.items() if name != "gpus"})
    for steps in (3, 7, 0):  # within the head's epoch, within the next one, and to the end
        limited = config.with_fields(max_steps=steps)
        fit(limited, tmp_path / "resumed", resume=steps != 3, progress=False)
    fit(config, tmp_path / "straight", progress=False)
    mine, theirs = (
        mx.nd.load(str(tmp_path / name / "checkpoints" / "last" / "model.params"))
        for name in ("resumed", "straight")
    )
    for name, value in mine.items():
        other = theirs[name].asnumpy()
        np.testing.assert_allclose(value.asnumpy(), other, **tolerance, err_msg=name)


def test_two_devices_train_the_same_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "find_devices", lambda gpus: [mx.cpu(0), mx.cpu(1)])
    run = Run(TUNED, Workers())
    frozen = run.net._collect_params_with_prefix()["features.stem.conv.weight"]
    assert run.freezer.start_epoch(0)
    assert run.freezer.describe() == "the output only"
    assert run.freezer.start_epoch(1)
    assert frozen.grad_req == "null"
    assert set(run.freezer.trained) == {
        name
        for name, parameter in run.net._collect_params_with_prefix().items()
        if parameter.grad_req == "write"
    }


def test_rates_fall_with_the_distance_from_the_output():
    net = network("csp", False)
    factors = scale_rates(net, 0.5)
    assert factors["output.weight"] == 1
    assert factors["features.norm.gamma"] == 0.5
    stages = [name for name in net.features._children if name.startswith("stage")]
    names = [next(n for n in factors if n.startswith(f"features.{stage}.")) for stage in stages]
    assert [factors[name] for name in names] == [0.5**n for n in range(len(stages), 0, -1)]
    stem = next(name for name in factors if name.startswith("features.stem."))
    assert factors[stem] == 0.5 ** (len(stages) + 1)
    parameters = net._collect_params_with_prefix()
    assert {name: parameter.lr_mult for name, parameter in parameters.items()} == factors


def test_patterns_that_match_nothing_or_all_are_named():
    net = network("dense", False)
    with pytest.raises(
        ValueError, match=r"matches none of the \d+ parameters, such as .*; did you mean"
    ):
        Freezer(net, ("features.stage9",), 0)
    with pytest.raises(ValueError, match="leaves no parameter to train"):
        Freezer(net, ("*",), 0)
    with pytest.raises(ValueError, match="`head_epochs` trains the output, which `freeze` leaves"):
        Freezer(net, ("output",), 1)
    names = ["features.a.weight", "features.ab.weight"]
    assert find_parameters(names, ["features.a"]) == {"features.a.weight"}
