"""``backend="native"``, compared with MXNet's own operators in float32 and float64."""

from __future__ import annotations

import json
import os

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from support.native_training import (
    STATIC,
    forward_backward,
    random_parameters,
    relative_errors,
    run_test_with,
)

from gluondense import native
from gluondense.graph.dual_path_stages import DUAL_PATH_STAGE
from gluondense.graph.fuse_dense_stages import fuse_stages
from gluondense.graph.ir import Graph
from gluondense.graph.residual_stages import RESIDUAL_STAGE
from gluondense.graph.trace import trace
from gluondense.models.registry import build_model
from gluondense.training import TrainStep

pytestmark = pytest.mark.usefixtures("native_operator")

ONE = (mx.cpu(),)
THREE = {"kernel": "(3, 3)"}
TINY = {"block_config": (2, 2), "classes": 5}
TINY_PELEE = {**TINY, "bn_sizes": (1, 2)}
TINY_DPN = {"num_blocks": (2, 3), "increments": (16, 20), "classes": 5}
TINY_RESNEXT = {"num_blocks": (2, 1), "widths": (64, 96), "groups": 8, "classes": 5}

# Model, fields, input shape.
STAGES = {
    "plain": ("densenet121", TINY, (2, 3, 64, 64)),
    "odd size": ("densenet121", TINY, (3, 3, 75, 91)),
    "one image": ("densenet121", TINY, (1, 3, 128, 128)),
    "growth 12": ("densenet121", {**TINY, "growth_rate": 12, "stem": "cifar"}, (2, 3, 18, 22)),
    "growth 24": ("densenet121", {**TINY, "growth_rate": 24, "stem": "cifar"}, (2, 3, 18, 22)),
    "growth 12, no bottleneck": (
        "densenet121",
        {**TINY, "growth_rate": 12, "bn_size": 0, "num_init_features": 16, "stem": "cifar"},
        (2, 3, 33, 31),
    ),
    "growth 48": ("densenet121", {**TINY, "growth_rate": 48}, (2, 3, 64, 64)),
    "no bottleneck": ("densenet121", {**TINY, "bn_size": 0, "stem": "cifar"}, (2, 3, 33, 31)),
    "three stages": ("densenet121", {**TINY, "block_config": (1, 3, 2)}, (2, 3, 96, 96)),
    "csp": ("csp_densenet121", {**TINY, "block_config": (2, 2, 3)}, (1, 3, 64, 64)),
    "csp both": ("csp_densenet121", {**TINY, "fusion": "both"}, (2, 3, 64, 64)),
    "csp first": ("csp_densenet121", {**TINY, "fusion": "first"}, (2, 3, 64, 64)),
    "csp odd size": ("csp_densenet121", {**TINY, "partial_ratio": 0.3}, (2, 3, 75, 91)),
    "csp listing": ("csp_densenet121_listing", TINY, (2, 3, 64, 64)),
    "two-way": ("peleenet", TINY_PELEE, (2, 3, 40, 48)),
    "two-way odd size": ("peleenet", TINY_PELEE, (2, 3, 51, 43)),
    "two-way growth 13": ("peleenet", {**TINY_PELEE, "growth_rate": 13}, (1, 3, 40, 36)),
    "two-way csp": ("csp_peleenet", TINY_PELEE, (1, 3, 40, 40)),
    "dual path": ("dpn68", TINY_DPN, (2, 3, 64, 48)),
    "dual path, odd size": (  # groups of 3, 6 and 12 channels
        "dpn68",
        {
            "num_blocks": (2, 3, 1),
            "increments": (5, 7, 9),
            "bottleneck_width": 24,
            "groups": 8,
            "residual_width": 20,
            "classes": 5,
        },
        (3, 3, 75, 91),
    ),
    "dual path, wide groups": (  # of 12, 24 and 48 channels
        "dpn48b",
        {
            "num_blocks": (1, 2, 2),
            "increments": (8, 8, 8),
            "bottleneck_width": 48,
            "groups": 4,
            "residual_width": 33,
            "classes": 5,
        },
        (1, 3, 64, 64),
    ),
    "residual": ("csp_resnext50", TINY_RESNEXT, (2, 3, 64, 48)),
    "residual, odd size": (  # groups of 6, 8 and 5 channels, and of 12 and 16 where strides are 2
        "csp_resnext50",
        {
            "num_blocks": (1, 3, 2),
            "widths": (48, 64, 40),
            "partial_ratio": 0.25,
            "bottleneck_ratio": 2 / 3,
            "groups": 4,
            "slope": 0.1,
            "classes": 5,
        },
        (3, 3, 75, 91),
    ),
    "residual, ReLU": ("csp_resnext50", {**TINY_RESNEXT, "groups": 2, "slope": 0}, (1, 3, 64, 96)),
}


@pytest.fixture(autouse=True)
def loaded(native_operator):
    native.load(native.STAGE)


def stage_of(name):
    return {"dpn": DUAL_PATH_STAGE, "csp_resnext": RESIDUAL_STAGE}.get(
        name.rstrip("0123456789b"), native.STAGE
    )


def inexact_arrays(case, recompute, seed):
    """Return arrays that differ from float64 by more than float32 rounding explains."""
    name, fields, shape = STAGES[case]
    net = build_model(name, **fields)
    params = random_parameters(net, seed)
    image = np.random.default_rng(seed).normal(size=shape)
    symbol = trace(net)
    fused = fuse_stages(symbol, recompute=recompute)
    operators = [node.op for node in Graph(fused, {}).operators()]
    assert stage_of(name) in operators
    exact = forward_backward(symbol, params, image, "float64")
    stock, ours = (
        relative_errors(forward_backward(graph, params, image), exact) for graph in (symbol, fused)
    )
    # Winograd's algorithm in float32 has errors of about 1e-6.
    return {name: ours[name] for name in exact if ours[name] > max(4 * stock[name], 2e-5)}


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("case", STAGES)
def test_is_as_exact_as_mxnet(case, recompute):
    # A ReLU's input that is zero up to rounding has either gradient. Few seeds have such an input.
    found = [inexact_arrays(case, recompute, 0)]
    while found[-1] and len(found) < 4:
        found.append(inexact_arrays(case, recompute, len(found)))
    assert not found[-1], found


def train(net, steps=3, contexts=ONE, parts=1):
    """Train on noise; return the losses and the parameters after the last step."""
    rng = np.random.default_rng(0)
    trainer = gluon.Trainer(
        net.collect_params(), "nag", {"learning_rate": 0.05}, update_on_kvstore=False
    )
    trainer.save_states(os.devnull)  # starts the key-value store
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
    tiny = {"dpn": TINY_DPN, "pel": TINY_PELEE, "res": TINY_RESNEXT}.get(
        name.removeprefix("csp_")[:3], TINY
    )
    net = build_model(name, prefix="net_", **{**tiny, **fields})
    mx.random.seed(3)
    np.random.seed(3)
    net.initialize(ctx=list(contexts))
    net.hybridize(backend=backend, **settings)
    return net


def ran_natively(net):
    return "_native_graph" in net._ops


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("densenet121", STATIC),
        ("densenet121", {"static_alloc": True}),
        ("densenet121", {}),
        ("peleenet", STATIC),
        ("csp_peleenet", STATIC),
        ("dpn68", STATIC),
        ("csp_resnext50", STATIC),
    ],
    ids=str,
)
def test_trains_like_mxnet(name, settings):
    ours = network(settings=settings, name=name)
    losses, params = train(ours)
    stock_losses, stock = train(network(backend=None, settings=settings, name=name))
    assert ran_natively(ours)
    np.testing.assert_allclose(losses[:4], stock_losses[:4], rtol=1e-5)
    np.testing.assert_allclose(losses, stock_losses, rtol=1e-3)
    for name in params:
        if "running" in name:
            np.testing.assert_allclose(params[name], stock[name], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("name", ["densenet121", "dpn68", "csp_resnext50"])
def test_is_deterministic(name):
    (first, params), (second, again) = (train(network(name=name)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    for name in params:
        np.testing.assert_array_equal(params[name], again[name])


@pytest.mark.parametrize("name", ["densenet121", "peleenet", "dpn68", "csp_resnext50"])
def test_recomputation_is_bitwise_equal(name):
    net = network(name=name)
    net.memory_efficient = True
    (losses, params), (others, kept) = train(net), train(network(name=name))
    np.testing.assert_array_equal(losses, others)
    for name in params:
        np.testing.assert_array_equal(params[name], kept[name])


@pytest.mark.parametrize(
    ("fields", "natively"),
    [
        ({}, True),
        ({"attention": "se"}, False),
        ({"name": "peleenet"}, True),
        ({"name": "dpn68"}, True),
        ({"name": "dpn68", "dropout": 0.1}, False),
        ({"name": "csp_resnext50"}, True),
    ],
    ids=str,
)
def test_memory_efficient_steps_recompute_in_the_native_stages(fields, natively):
    net = network(**fields)
    net.memory_efficient = True
    step = TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss())
    loss, _ = step(mx.nd.ones((2, 3, 64, 64)), mx.nd.array([0, 1]))
    assert np.isfinite(loss.asnumpy()).all()
    assert ran_natively(net) == natively
    assert bool(step._executors) != natively


def test_gradients_accumulate_with_grad_req_add():
    ours, stock = network(), network(backend=None)
    for net in (ours, stock):
        net.collect_params().setattr("grad_req", "add")
    losses, _ = train(ours, steps=2, parts=2)
    np.testing.assert_allclose(losses, train(stock, steps=2, parts=2)[0], rtol=1e-3)


def test_grad_req_may_change():
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


def test_frozen_parameters_change_no_other_gradient():
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


def test_two_contexts_train_like_mxnet():
    both = (mx.cpu(0), mx.cpu(1))
    losses, _ = train(network(contexts=both), contexts=both)
    stock, _ = train(network(backend=None, contexts=both), contexts=both)
    np.testing.assert_allclose(losses, stock, rtol=1e-3)


def test_two_forward_passes_before_backward():
    net = network()
    x, y = mx.nd.random.normal(shape=(2, 2, 3, 64, 64))
    grads = []
    for images in ([x], [y], [x, y]):
        with autograd.record():
            out = sum(net(image).sum() for image in images)
        out.backward()
        grads.append(net.features[1][0][2].weight.grad().asnumpy())
    np.testing.assert_allclose(grads[2], grads[0] + grads[1], rtol=1e-4, atol=1e-6)


def test_inference_and_exports_use_the_original_graph(tmp_path):
    net, x = network(), mx.nd.random.normal(shape=(2, 3, 64, 64))
    train(net, steps=1)
    net.export(str(tmp_path / "net"))
    text = (tmp_path / "net-symbol.json").read_text()
    assert {node["op"] for node in json.loads(text)["nodes"]}.isdisjoint([native.STAGE])
    found = net(x).asnumpy()
    net.hybridize(**STATIC)
    np.testing.assert_array_equal(found, net(x).asnumpy())
    assert not ran_natively(net)


def test_hooks_use_the_original_graph():
    net = network()
    net.register_op_hook(lambda *_: None)
    with autograd.record(), pytest.warns(UserWarning, match="register_op_hook"):
        net(mx.nd.ones((1, 3, 64, 64)))
    assert not ran_natively(net)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("densenet121", {"dropout": 0.2}),
        ("densenet121", {"dropout": 0.2, "dropout_after": "3x3"}),
        ("densenet121", {"attention": "se"}),
        ("densenet121", {"use_bias": True}),
        ("dpn68", {"dropout": 0.2}),
        ("dpn68", {"drop_path": 0.2}),
        ("dpn68", {"attention": "se"}),
        ("csp_resnet50", {}),
        ("csp_resnext50", {"drop_path": 0.2}),
        ("csp_resnext50", {"attention": "se"}),
        ("peleenet", {"dropout": 0.2}),
        ("peleenet", {"attention": "se"}),
        ("csp_peleenet", {"dropout": 0.2, "dropout_after": "3x3"}),
        ("rdnet_tiny", {}),
    ],
    ids=str,
)
def test_unsupported_layers_are_not_fused(name, fields):
    symbol = trace(build_model(name, **fields))
    before, after = (
        [node for node in Graph(graph, {}).operators() if node.is_like("Convolution", **THREE)]
        for graph in (symbol, fuse_stages(symbol))
    )
    assert len(before) == len(after)


@pytest.mark.parametrize(
    ("name", "out_indices"),
    [
        ("densenet121", None),
        ("densenet121", (0, 1)),
        ("densenet121", (0, 2)),
        ("peleenet", None),
        ("csp_peleenet", None),
        ("dpn68", None),
        ("csp_resnext50", None),
    ],
    ids=str,
)
def test_features_between_the_stages_are_outputs(name, out_indices):
    options = {"name": name, "features_only": True, "out_indices": out_indices}
    ours, stock = (network(backend, **options) for backend in ("native", None))
    x = mx.nd.random.normal(shape=(2, 3, 64, 64))
    with autograd.train_mode():
        for found, expected in zip(ours(x), stock(x)):
            np.testing.assert_allclose(found.asnumpy(), expected.asnumpy(), rtol=1e-4, atol=3e-4)
    assert ran_natively(ours)


def test_without_a_compiler_hybridize_fails(monkeypatch):
    def fail(operator):
        raise native.CompilerError("there is no C++ compiler")

    monkeypatch.setattr("gluondense.native.backend.load", fail)
    with pytest.raises(native.CompilerError, match="no C"):
        network()


@pytest.mark.slow
@pytest.mark.parametrize("instructions", ["base", "avx2", "avx512"])
def test_each_instruction_set_is_as_exact_as_mxnet(instructions):
    run_test_with(instructions, f"{__file__}::test_is_as_exact_as_mxnet")
