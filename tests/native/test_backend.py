"""Training with the native operator, against MXNet's own operators in float32 and float64."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from support.native_training import STATIC, error, run, values

from gluondense import native
from gluondense.graph.fuse_dense_stages import fuse_stages
from gluondense.graph.ir import Graph
from gluondense.graph.trace import trace
from gluondense.models.registry import build_model
from gluondense.training import TrainStep

pytestmark = pytest.mark.usefixtures("native_operator")

ONE = (mx.cpu(),)
THREE = {"kernel": "(3, 3)"}
TINY = {"block_config": (2, 2), "classes": 5}

# Name, fields, images.
STAGES = {
    "plain": ("densenet121", TINY, (2, 3, 64, 64)),
    "odd size": ("densenet121", TINY, (3, 3, 75, 91)),
    "one image": ("densenet121", TINY, (1, 3, 128, 128)),
    "growth 12": ("densenet121", {**TINY, "growth_rate": 12, "stem": "cifar"}, (2, 3, 18, 22)),
    "growth 48": ("densenet121", {**TINY, "growth_rate": 48}, (2, 3, 64, 64)),
    "no bottleneck": ("densenet121", {**TINY, "bn_size": 0, "stem": "cifar"}, (2, 3, 33, 31)),
    "three stages": ("densenet121", {**TINY, "block_config": (1, 3, 2)}, (2, 3, 96, 96)),
    "csp": ("csp_densenet121", {**TINY, "block_config": (2, 2, 3)}, (1, 3, 64, 64)),
    "csp both": ("csp_densenet121", {**TINY, "fusion": "both"}, (2, 3, 64, 64)),
}


@pytest.fixture(autouse=True)
def loaded(native_operator):
    native.load(native.STAGE)


def far(case, recompute, seed):
    """Arrays that lie farther from what float64 gives than rounding explains."""
    name, fields, shape = STAGES[case]
    net = build_model(name, **fields)
    params = values(net, seed)
    image = np.random.default_rng(seed).normal(size=shape)
    symbol = trace(net)
    fused = fuse_stages(symbol, recompute=recompute)
    assert native.STAGE in {node.op for node in Graph(fused, {}).operators()}
    exact = run(symbol, params, image, "float64")
    usual, ours = (error(run(graph, params, image), exact) for graph in (symbol, fused))
    # Winograd's filtering in float32 has errors of some 1e-6.
    return {name: ours[name] for name in exact if ours[name] > max(4 * usual[name], 2e-5)}


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("case", STAGES)
def test_it_is_as_exact_as_mxnet(case, recompute):
    # Rounding decides on which side of a ReLU a value at its very edge lies, and gradients follow.
    # Few draws have such a value.
    found = [far(case, recompute, 0)]
    while found[-1] and len(found) < 4:
        found.append(far(case, recompute, len(found)))
    assert not found[-1], found


def train(net, steps=3, contexts=ONE, parts=1):
    """Losses of some steps on noise, and the parameters behind them."""
    rng = np.random.default_rng(0)
    trainer = gluon.Trainer(
        net.collect_params(), "nag", {"learning_rate": 0.05}, update_on_kvstore=False
    )
    trainer.save_states(os.devnull)  # starts the key-value store; see training/run.py
    loss, losses = gluon.loss.SoftmaxCrossEntropyLoss(), []
    for _ in range(steps):
        if parts > 1:
            net.collect_params().zero_grad()
        for _ in range(parts):
            images = [mx.nd.array(rng.normal(size=(4, 3, 72, 72)), ctx=ctx) for ctx in contexts]
            labels = [mx.nd.array([0, 1, 2, 3], ctx=ctx) for ctx in contexts]
            with autograd.record():
                found = [loss(net(x), y) for x, y in zip(images, labels)]
            autograd.backward(found)
            losses += [each.asnumpy() for each in found]
        trainer.step(4 * parts * len(contexts))
    mx.nd.waitall()
    params = {name: p.data(contexts[0]).asnumpy() for name, p in net.collect_params().items()}
    return np.concatenate(losses), params


def network(backend="native", contexts=ONE, settings=STATIC, name="densenet121", **fields):
    net = build_model(name, prefix="net_", **{**TINY, **fields})
    mx.random.seed(3)
    np.random.seed(3)
    net.initialize(ctx=list(contexts))
    net.hybridize(backend=backend, **settings)
    return net


def ran_natively(net):
    return net._training is not None


@pytest.mark.parametrize("settings", [STATIC, {"static_alloc": True}, {}], ids=str)
def test_gluon_trains_as_before(settings):
    ours = network(settings=settings)
    losses, params = train(ours)
    usual_losses, usual = train(network(backend=None, settings=settings))
    assert ran_natively(ours)
    np.testing.assert_allclose(losses[:4], usual_losses[:4], rtol=1e-5)
    np.testing.assert_allclose(losses, usual_losses, rtol=1e-3)
    for name in params:
        if "running" in name:
            np.testing.assert_allclose(params[name], usual[name], rtol=1e-2, atol=1e-2)


def test_a_run_can_be_repeated_to_the_bit():
    (first, params), (second, again) = train(network()), train(network())
    np.testing.assert_array_equal(first, second)
    for name in params:
        np.testing.assert_array_equal(params[name], again[name])


def test_recomputing_changes_no_bit():
    net = network()
    net.memory_efficient = True
    (losses, params), (others, kept) = train(net), train(network())
    np.testing.assert_array_equal(losses, others)
    for name in params:
        np.testing.assert_array_equal(params[name], kept[name])


@pytest.mark.parametrize(("fields", "natively"), [({}, True), ({"attention": "se"}, False)])
def test_a_memory_efficient_step_recomputes_in_the_stages(fields, natively):
    net = network(**fields)
    net.memory_efficient = True
    step = TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss())
    loss, _ = step(mx.nd.ones((2, 3, 64, 64)), mx.nd.array([0, 1]))
    assert np.isfinite(loss.asnumpy()).all()
    assert ran_natively(net) == natively
    assert bool(step._executors) != natively


def test_gradients_are_added_up_where_they_shall_be():
    ours, usual = network(), network(backend=None)
    for net in (ours, usual):
        net.collect_params().setattr("grad_req", "add")
    losses, _ = train(ours, steps=2, parts=2)
    np.testing.assert_allclose(losses, train(usual, steps=2, parts=2)[0], rtol=1e-3)


def test_what_is_added_up_may_change():
    net, x = network(), mx.nd.ones((2, 3, 64, 64))

    def gradient(times):
        for _ in range(times):
            with autograd.record():
                out = net(x)
            out.backward()
        return net.features[1][0][2].weight.grad().asnumpy()

    once = gradient(2)  # the second overwrites the first
    net.collect_params().setattr("grad_req", "add")
    np.testing.assert_allclose(gradient(2), 2 * once, rtol=1e-5, atol=1e-9)


def test_frozen_parameters_stay_and_the_others_get_the_same_gradients():
    net, x = network(), mx.nd.random.normal(shape=(2, 3, 64, 64))
    weight = net.features[1][0][2].weight

    def gradients():
        with autograd.record():
            out = net(x)
        out.backward()
        return {k: p.grad().asnumpy() for k, p in net.collect_params().items() if p._grad}

    everything = gradients()
    net.features[1].collect_params(".*weight").setattr("grad_req", "null")
    rest = gradients()
    assert weight.name in everything
    assert weight.name not in rest
    for name, array in rest.items():
        np.testing.assert_array_equal(array, everything[name])


def test_two_contexts_train_as_before():
    both = (mx.cpu(0), mx.cpu(1))
    losses, _ = train(network(contexts=both), contexts=both)
    usual, _ = train(network(backend=None, contexts=both), contexts=both)
    np.testing.assert_allclose(losses, usual, rtol=1e-3)


def test_two_passes_may_wait_for_their_backward():
    net = network()
    x, y = mx.nd.random.normal(shape=(2, 2, 3, 64, 64))
    grads = []
    for images in ([x], [y], [x, y]):
        with autograd.record():
            out = sum(net(image).sum() for image in images)
        out.backward()
        grads.append(net.features[1][0][2].weight.grad().asnumpy())
    np.testing.assert_allclose(grads[2], grads[0] + grads[1], rtol=1e-4, atol=1e-6)


def test_predictions_and_exports_are_the_usual_ones(tmp_path):
    net, x = network(), mx.nd.random.normal(shape=(2, 3, 64, 64))
    train(net, steps=1)
    net.export(str(tmp_path / "net"))
    text = (tmp_path / "net-symbol.json").read_text()
    assert {node["op"] for node in json.loads(text)["nodes"]}.isdisjoint([native.STAGE])
    found = net(x).asnumpy()
    net.hybridize(**STATIC)
    np.testing.assert_array_equal(found, net(x).asnumpy())
    assert not ran_natively(net)


def test_other_types_and_hooks_go_the_usual_way():
    net = network()
    net.register_op_hook(lambda *_: None)
    with autograd.record(), pytest.warns(UserWarning, match="register_op_hook"):
        net(mx.nd.ones((1, 3, 64, 64)))
    assert not ran_natively(net)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("densenet121", {"dropout": 0.2}),
        ("densenet121", {"attention": "se"}),
        ("densenet121", {"use_bias": True}),
        ("dpn68", {}),
        ("csp_resnet50", {}),
    ],
    ids=str,
)
def test_what_it_has_no_steps_for_stays(name, fields):
    symbol = trace(build_model(name, **fields))
    before, after = (
        [node for node in Graph(graph, {}).operators() if node.is_like("Convolution", **THREE)]
        for graph in (symbol, fuse_stages(symbol))
    )
    assert len(before) == len(after)


def test_features_are_given_out_between_the_stages():
    ours, usual = (network(backend, features_only=True) for backend in ("native", None))
    x = mx.nd.random.normal(shape=(2, 3, 64, 64))
    with autograd.train_mode():
        for found, expected in zip(ours(x), usual(x)):
            np.testing.assert_allclose(found.asnumpy(), expected.asnumpy(), rtol=1e-4, atol=3e-4)
    assert ran_natively(ours)


def test_without_a_compiler_it_says_so(monkeypatch):
    def fail(operator):
        raise native.CompilerError("there is no C++ compiler")

    monkeypatch.setattr(native, "load", fail)
    with pytest.raises(native.CompilerError, match="no C"):
        network()


@pytest.mark.slow
@pytest.mark.parametrize("instructions", ["base", "avx2", "avx512"])
def test_each_instruction_set_is_exact(instructions):
    test = f"{__file__}::test_it_is_as_exact_as_mxnet"
    environment = {**os.environ, "GLUONDENSE_ISA": instructions}
    command = [sys.executable, "-m", "pytest", "-q", "-x", test, "-p", "no:cacheprovider"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if "is not supported here" in done.stdout:
        pytest.skip(f"this processor has no {instructions}")
    assert done.returncode == 0, done.stdout
