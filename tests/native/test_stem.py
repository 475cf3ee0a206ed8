"""The operator ``gluondense_stem``, compared with MXNet's own operators in float32 and float64."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from support.native_training import (
    STATIC,
    forward_backward,
    random_parameters,
    relative_errors,
    run_test_with,
)

from gluondense import native
from gluondense.graph.fuse_dense_stages import fuse_stages
from gluondense.graph.fuse_stem import STEM
from gluondense.graph.ir import Graph
from gluondense.graph.mixed_precision import use_mixed_precision
from gluondense.graph.trace import trace
from gluondense.models.registry import build_model

pytestmark = pytest.mark.usefixtures("native_operator")

TINY = {"block_config": (1, 1), "classes": 5}
LEAKY = {"num_blocks": (1,), "widths": (32,), "groups": 4, "classes": 5}
# Fields of the network, input shape.
CASES = {
    "plain": ({}, (2, 3, 64, 64)),
    "odd size": ({"num_init_features": 20}, (3, 3, 75, 91)),
    "more rows than a strip": ({"num_init_features": 96}, (1, 3, 70, 33)),
    "five channels": ({"in_channels": 5, "num_init_features": 33}, (2, 5, 34, 47)),
    "gray": ({"in_channels": 1}, (4, 1, 36, 36)),
    "leaky": ({"slope": 0.1, "num_init_features": 20}, (2, 3, 34, 47)),
}
SHAPES = {"x": (2, 3, 9, 11), "weight": (4, 3, 7, 7), **dict.fromkeys(("gamma", "beta"), (4,))}
SHAPES |= dict.fromkeys(("mean", "var"), (4,))
ATTRIBUTES = {"out_channels": 4, "recompute": 0, "slope": 0, "eps": "1e-5"}
ATTRIBUTES |= {"momentum": "0.9", "dtype": "float32"}


@pytest.fixture(autouse=True)
def loaded(native_operator):
    native.load(native.STAGE)


def case(name, seed=0):
    """Return a network's graph, its parameters and an image."""
    fields, shape = CASES[name]
    name, tiny = ("csp_resnext50", LEAKY) if "slope" in fields else ("densenet121", TINY)
    net = build_model(name, **tiny, **fields)
    return trace(net), random_parameters(net, seed), np.random.default_rng(seed).normal(size=shape)


def without_image(found):
    return {name: array for name, array in found.items() if name != "data"}


def inexact_arrays(name, seed):
    """Return arrays that differ from float64 by more than float32 rounding explains."""
    symbol, params, image = case(name, seed)
    fused = fuse_stages(symbol, stem=True)
    assert STEM in {node.op for node in Graph(fused, {}).operators()}
    exact = without_image(forward_backward(symbol, params, image, "float64"))
    stock, ours = (
        relative_errors(forward_backward(graph, params, image), exact) for graph in (symbol, fused)
    )
    return {name: ours[name] for name in exact if ours[name] > max(4 * stock[name], 2e-5)}


@pytest.mark.parametrize("name", CASES)
def test_is_as_exact_as_mxnet(name):
    # A ReLU's input that is zero up to rounding has either gradient. Few seeds have such an input.
    found = [inexact_arrays(name, 0)]
    while found[-1] and len(found) < 4:
        found.append(inexact_arrays(name, len(found)))
    assert not found[-1], found


def bfloat16_errors(name, seed):
    """Return the errors of the output and of all arrays, ours and those of MXNet's casts."""
    symbol, params, image = case(name, seed)
    cast = Graph(symbol, {})
    use_mixed_precision(cast, "bfloat16")
    exact = without_image(forward_backward(symbol, params, image, "float64"))
    errors = []
    for graph in (
        fuse_stages(symbol, dtype="bfloat16", stem=True),
        mx.sym.load_json(cast.to_json()),
    ):
        found = forward_backward(graph, params, image)
        of_arrays = {
            key: np.linalg.norm(found[key] - array) / np.linalg.norm(array)
            for key, array in exact.items()
            if "running" not in key
        }
        errors.append((of_arrays["out"], np.median(list(of_arrays.values()))))
    return errors


@pytest.mark.parametrize("name", ["odd size", "five channels"])
def test_is_as_exact_as_mxnet_in_bfloat16(name):
    """Rounding moves ReLUs and maxima: the errors of a single network vary by a third."""
    (out, median), (stock_out, stock_median) = np.mean(
        [bfloat16_errors(name, seed) for seed in range(3)], axis=0
    )
    assert 1e-5 < out < 1.2 * stock_out
    assert median < 1.4 * stock_median


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_runs_and_recomputation_are_bitwise_equal(dtype):
    symbol, params, image = case("odd size")
    first, again, recomputed = (
        forward_backward(fuse_stages(symbol, dtype=dtype, recompute=r, stem=True), params, image)
        for r in (False, False, True)
    )
    for name, array in first.items():
        np.testing.assert_array_equal(again[name], array)
        np.testing.assert_array_equal(recomputed[name], array)


def network(**fields):
    net = build_model("densenet121", **{**TINY, **fields})
    net.initialize()
    net.hybridize(backend="native", **STATIC)
    return net


def image_gradient(net, x, make_input):
    x.attach_grad()
    with autograd.record():
        out = net(make_input(x))
    out.backward()
    return x.grad.asnumpy()


@pytest.mark.parametrize("make_input", [lambda x: x, lambda x: 2 * x], ids=["leaf", "result"])
def test_images_with_a_gradient_get_it(make_input):
    mx.random.seed(0)
    net, x = network(), mx.nd.random.normal(shape=(2, 3, 64, 64))
    ours = image_gradient(net, x, make_input)
    assert list(net._ops) == ["_native_graph_to_input"]
    net.hybridize(**STATIC)
    stock = image_gradient(net, x, make_input)
    largest = np.abs(stock).max()
    assert largest > 0
    np.testing.assert_allclose(ours, stock, rtol=1e-3, atol=1e-4 * largest)


def test_only_images_without_a_gradient_use_the_operator():
    net, x = network(), mx.nd.ones((2, 3, 64, 64))
    with autograd.record():
        net(x)
    assert list(net._ops) == ["_native_graph"]
    assert STEM in net._native_graph().tojson()
    assert STEM not in net._native_graph_to_input().tojson()


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("densenet121", {"stem": "cifar"}),
        ("densenet121", {"stem": "deep"}),
        ("densenet121", {"stem": "imagenet3"}),
        ("densenet121", {"stem": "tutorial"}),
        ("densenet121", {"blur_pool": True}),
        ("densenet121", {"use_bias": True}),
        ("csp_resnet50", {}),
        ("peleenet", {}),
    ],
    ids=str,
)
def test_other_stems_are_not_fused(name, fields):
    symbol = trace(build_model(name, **fields))
    assert fuse_stages(symbol, stem=True).tojson() == fuse_stages(symbol).tojson()


def test_feature_maps_before_the_pooling_are_not_fused():
    net = build_model("densenet121", **TINY, features_only=True, out_indices=(0, 2))
    assert STEM not in fuse_stages(trace(net), stem=True).tojson()


@pytest.mark.parametrize("name", ["densenet161", "densenet169", "csp_densenet121", "csp_resnext50"])
def test_stems_of_the_networks_are_fused(name):
    symbol = fuse_stages(trace(build_model(name)), stem=True, dtype="bfloat16")
    (stem,) = (node for node in Graph(symbol, {}).operators() if node.op == STEM)
    width = {"densenet161": "96"}.get(name, "64")
    assert (stem.attrs["out_channels"], stem.attrs["dtype"]) == (width, "bfloat16")


@pytest.mark.parametrize(
    ("attributes", "shapes", "message"),
    [
        ({"out_channels": 0}, {}, "out_channels must be positive"),
        ({"out_channels": 1 << 20}, {}, "out_channels must be an integer from 0 to 4096"),
        ({"eps": "tiny"}, {}, "eps must be a number, not tiny"),
        ({"slope": "-0.1"}, {}, "slope must be from 0 to 1, not -0.1"),
        ({"recompute": 2}, {}, "recompute must be an integer from 0 to 1, not 2"),
        ({"dtype": "float16"}, {}, "dtype must be float32 or bfloat16, not float16"),
        ({}, {"x": (2, 3, 9)}, "the images must be (N, C, H, W), not of 3 dimensions"),
        ({}, {"x": (1, 1, 1, 1 << 17)}, "dimension 3 of the images must be from 1 to 65536"),
    ],
    ids=str,
)
def test_wrong_attributes_and_shapes_are_refused(attributes, shapes, message, capfd):
    arrays = [mx.nd.ones(shape) for shape in {**SHAPES, **shapes}.values()]
    with pytest.raises(mx.base.MXNetError) as raised:
        mx.nd.gluondense_stem(*arrays, **{**ATTRIBUTES, **attributes})
    assert message in str(raised.value) + "".join(capfd.readouterr())


def test_running_statistics_of_constant_images():
    """The output is beta, where it is positive."""
    arrays = [mx.nd.ones(shape) for shape in SHAPES.values()]
    arrays[0][:] = 0
    arrays[3][:] = mx.nd.array([-1, 0, 1, 2])
    with autograd.record():
        out = mx.nd.gluondense_stem(*arrays, **{**ATTRIBUTES, "momentum": "0.75"})
    expected = np.broadcast_to(np.array([0, 0, 1, 2]).reshape(1, 4, 1, 1), (2, 4, 3, 3))
    np.testing.assert_array_equal(out.asnumpy(), expected)
    for running in arrays[4:]:
        np.testing.assert_allclose(running.asnumpy(), 0.75 * np.ones(4), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("instructions", ["base", "avx2", "avx512"])
def test_each_instruction_set_is_as_exact_as_mxnet(instructions):
    for test in ("test_is_as_exact_as_mxnet", "test_is_as_exact_as_mxnet_in_bfloat16"):
        run_test_with(instructions, f"{__file__}::{test}")
