"""``hybridize(backend="native", dtype="bfloat16")``, compared with float32 and float64."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon
from support.native_training import (
    STATIC,
    forward_backward,
    random_parameters,
    run_test_with,
)

from gluondense import native
from gluondense.graph.fuse_dense_stages import fuse_stages
from gluondense.graph.ir import Graph
from gluondense.graph.mixed_precision import use_mixed_precision
from gluondense.graph.trace import trace
from gluondense.models.registry import build_model
from gluondense.training import TrainStep

pytestmark = pytest.mark.usefixtures("native_operator")

TINY = {"block_config": (2, 2), "classes": 5}
PELEE = {**TINY, "bn_sizes": (1, 2)}
DPN = {"num_blocks": (2, 2), "increments": (16, 20), "classes": 5}
RESNEXT = {"num_blocks": (2, 1), "widths": (64, 96), "groups": 8, "classes": 5}
# Model, fields, input shape.
STAGES = {
    "plain": ("densenet121", TINY, (2, 3, 64, 64)),
    "odd": ("densenet121", {**TINY, "growth_rate": 13, "stem": "cifar"}, (3, 3, 19, 22)),
    "no bottleneck": ("densenet121", {**TINY, "bn_size": 0, "stem": "cifar"}, (2, 3, 33, 31)),
    "two-way": ("peleenet", {**PELEE, "growth_rate": 14}, (2, 3, 51, 43)),
    "csp": ("csp_densenet121", {**TINY, "stem": "cifar"}, (2, 3, 33, 31)),
    "dual path": ("dpn68", {**DPN, "increments": (13, 20)}, (2, 3, 80, 72)),
    "residual": ("csp_resnext50", {**RESNEXT, "widths": (80, 96)}, (2, 3, 80, 72)),
}


@pytest.fixture(autouse=True)
def loaded(native_operator):
    native.load(native.STAGE)


def relative_errors(found, exact):
    """Return the norm of each array's error over the array's norm; of statistics, none."""
    return {
        name: np.linalg.norm(found[name] - array) / np.linalg.norm(array)
        for name, array in exact.items()
        if "running" not in name and np.linalg.norm(array)
    }


def network(dtype="bfloat16", name="densenet121", **fields):
    tiny = {"dpn68": DPN, "csp_resnext50": RESNEXT}.get(name, TINY)
    net = build_model(name, prefix="net_", **{**tiny, **fields})
    mx.random.seed(3)
    np.random.seed(3)
    net.initialize()
    net.hybridize(backend="native", dtype=dtype, **STATIC)
    return net


def train(net, dtype="bfloat16", steps=4):
    """Train on noise; return the losses and the parameters after the last step."""
    rng = np.random.default_rng(0)
    trainer = gluon.Trainer(net.collect_params(), "nag", {"learning_rate": 0.05})
    step, losses = TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss(), dtype=dtype), []
    for _ in range(steps):
        x, y = mx.nd.array(rng.normal(size=(4, 3, 72, 72))), mx.nd.array([0, 1, 2, 3])
        losses.append(step(x, y).loss.asnumpy())
        trainer.step(4)
    mx.nd.waitall()
    return np.array(losses), {k: p.data().asnumpy() for k, p in net.collect_params().items()}


@pytest.mark.parametrize("case", STAGES)
def test_is_as_exact_as_mxnet_in_bfloat16(case):
    """A ReLU whose input is nearly zero changes sides, so gradients differ by a tenth and more."""
    name, fields, shape = STAGES[case]
    net = build_model(name, **fields)
    params = random_parameters(net)
    image = np.random.default_rng(0).normal(size=shape)
    symbol = trace(net)
    cast = Graph(symbol, {})
    use_mixed_precision(cast, "bfloat16")
    exact = forward_backward(symbol, params, image, "float64")
    ours, stock = (
        relative_errors(forward_backward(graph, params, image), exact)
        for graph in (fuse_stages(symbol, dtype="bfloat16"), mx.sym.load_json(cast.to_json()))
    )
    assert 1e-5 < ours["out"] < 1.2 * stock["out"]
    assert np.median(list(ours.values())) < 1.2 * np.median(list(stock.values()))


@pytest.mark.parametrize(
    "case", ["plain", "odd", "no bottleneck", "two-way", "dual path", "residual"]
)
def test_gradients_where_no_relu_changes_sides(case):
    name, fields, shape = STAGES[case]
    net = build_model(name, **fields)
    params = random_parameters(net)
    params = {k: v + 8 if k.endswith("beta") else v for k, v in params.items()}
    image = np.random.default_rng(0).normal(size=shape)
    symbol = trace(net)
    exact = forward_backward(symbol, params, image, "float64")
    found = forward_backward(fuse_stages(symbol, dtype="bfloat16"), params, image)
    errors = relative_errors(found, exact)
    assert errors["out"] < 2e-3
    assert 1e-4 < errors["data"] < 3e-2  # in MXNet's own bfloat16: 0.05 to 0.1


def test_trains_as_in_float32():
    (losses, params), (exact, wanted) = train(network()), train(network("float32"), "float32")
    assert (losses != exact).all()
    np.testing.assert_allclose(losses[0], exact[0], rtol=1e-2)
    np.testing.assert_allclose(losses.mean(1), exact.mean(1), rtol=5e-2)
    for name in params:
        if "running_var" in name:
            np.testing.assert_allclose(params[name], wanted[name], rtol=5e-2, atol=1e-3)


@pytest.mark.parametrize(
    "name", ["densenet121", "peleenet", "csp_densenet121", "dpn68", "csp_resnext50"]
)
def test_runs_and_recomputation_are_bitwise_equal(name):
    fields = {"bn_sizes": (1, 2)} if name == "peleenet" else {}
    found = []
    for memory_efficient in (False, False, True):
        net = network(name=name, memory_efficient=memory_efficient, **fields)
        found.append(train(net, steps=2))
        assert "_native_graph" in net._ops
    for losses, params in found[1:]:
        np.testing.assert_array_equal(losses, found[0][0])
        for key, value in params.items():
            np.testing.assert_array_equal(value, found[0][1][key])


def test_networks_without_native_stages_are_refused():
    with pytest.raises(ValueError, match="this network has none: choose float32"):
        build_model("csp_resnet50").hybridize(backend="native", dtype="bfloat16")
    net = build_model("densenet121", **TINY)
    with pytest.raises(ValueError, match="needs the native operator: hybridize with backend"):
        net.hybridize(dtype="bfloat16")
    with pytest.raises(ValueError, match=r"dtype \(='float16'\) must be one of"):
        net.hybridize(backend="native", dtype="float16")
    net.hybridize(False, dtype="bfloat16")


@pytest.mark.slow
@pytest.mark.parametrize("instructions", ["base", "avx2", "avx512"])
def test_each_instruction_set_is_as_exact_as_mxnet(instructions):
    run_test_with(instructions, f"{__file__}::test_is_as_exact_as_mxnet_in_bfloat16")
