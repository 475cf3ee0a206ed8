"""Properties of every network of `list_models()`, tested at small image sizes."""

from __future__ import annotations

import dataclasses
import json
from typing import NamedTuple

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from support.reference import assert_close, images, randomize

from gluondense import get_model, get_spec, list_models
from gluondense.models import Network

CLASSES = 7
HEAVY = {
    "csp_densenet161",
    "csp_densenet161_listing",
    "csp_densenet169_listing",
    "csp_densenet201",
    "csp_densenet201_listing",
    "csp_darknet53",
    "csp_densenet264",
    "csp_resnet50w",
    "darknet53",
    "densenet100_k24_cifar10",
    "densenet161",
    "densenet190_k40_bc_cifar10",
    "densenet201",
    "densenet250_k24_bc_cifar10",
    "densenet264",
    "densenet264d",
    "dpn98",
    "dpn98_listing",
    "dpn107",
    "dpn107_listing",
    "dpn131",
    "dpn131_listing",
    "rdnet_small",
    "rdnet_base",
    "rdnet_large",
}


def names():
    """Mark large networks as slow, and those that differ from another one only in their classes."""
    seen = set()
    for name in list_models():
        spec = get_spec(name, classes=CLASSES)
        slow = name in HEAVY or spec in seen
        seen.add(spec)
        yield pytest.param(name, marks=pytest.mark.slow if slow else ())


class Case(NamedTuple):
    """A hybridized network, and its results before it was hybridized."""

    net: Network
    x: mx.nd.NDArray
    logits: np.ndarray
    direction: mx.nd.NDArray
    gradients: dict[str, np.ndarray]


@pytest.fixture(scope="module", params=names())
def case(request):
    net = randomize(get_model(request.param, classes=CLASSES))
    net.hybridize(False)
    side = (17, 12) if net.spec.stem == "cifar" else (75, 70)  # odd, and not square
    x = mx.nd.array(images(2, net.spec.in_channels, *side))
    direction = mx.nd.array(images(2, CLASSES, seed=2))
    gradients = backward(net, x, direction)
    logits = net(x).asnumpy()
    net.hybridize(static_alloc=True, static_shape=True)
    return Case(net, x, logits, direction, gradients)


def backward(net: Network, x: mx.nd.NDArray, direction: mx.nd.NDArray) -> dict[str, np.ndarray]:
    with autograd.record():
        y = net(x)
    y.backward(direction)
    parameters = net._collect_params_with_prefix()
    return {n: p.grad().asnumpy() for n, p in parameters.items() if p.grad_req != "null"}


def test_hybridized_equals_imperative(case):
    assert case.logits.shape == (2, CLASSES)
    assert_close(case.net(case.x), case.logits)


def test_every_parameter_has_a_gradient(case):
    largest = max(np.abs(gradient).max() for gradient in case.gradients.values())
    assert np.isfinite(largest)
    for name, gradient in case.gradients.items():
        # The batch normalization after a convolution cancels its bias.
        removed = "conv" in name and name.endswith(".bias")
        assert removed or np.abs(gradient).max() > 1e-7 * largest, name


def test_hybridized_gradients_equal_imperative_ones(case):
    gradients = backward(case.net, case.x, case.direction)
    largest = max(np.abs(gradient).max() for gradient in case.gradients.values())
    for name, expected in case.gradients.items():
        scale = max(np.abs(expected).max(), 1e-4 * largest)
        assert np.abs(gradients[name] - expected).max() < 1e-2 * scale, name


def test_images_of_a_batch_are_independent(case):
    logits = case.net(case.x).asnumpy()
    assert np.abs(logits[0] - logits[1]).max() > 1e-3 * np.abs(logits).max()
    for index in range(2):
        assert_close(case.net(case.x[index : index + 1]), logits[index : index + 1], 1e-4)


def test_saved_parameters_give_the_same_network_with_the_same_names(case, tmp_path):
    case.net.save_parameters(str(tmp_path / "net.params"))
    fields = json.loads(json.dumps(dataclasses.asdict(case.net.spec)))
    again = get_model(case.net.model_name, **fields)
    assert list(again._collect_params_with_prefix()) == list(case.net._collect_params_with_prefix())
    data = mx.sym.var("data")
    assert again(data).list_inputs() == case.net(data).list_inputs()
    again.hybridize(False)
    again.load_parameters(str(tmp_path / "net.params"))
    assert_close(again(case.x), case.net(case.x).asnumpy())


@pytest.mark.filterwarnings("ignore:Cannot decide type for the following arguments:UserWarning")
def test_exported_files_give_the_same_network(case, tmp_path):
    expected = case.net(case.x).asnumpy()
    case.net.export(str(tmp_path / "net"))
    block = gluon.SymbolBlock.imports(
        str(tmp_path / "net-symbol.json"), ["data"], str(tmp_path / "net-0000.params")
    )
    assert_close(block(case.x), expected)
    assert all(name.startswith(f"{case.net.model_name}_") for name in block.collect_params())


def test_64_by_64(case):
    logits = case.net(mx.nd.array(images(2, case.net.spec.in_channels, 64, 64))).asnumpy()
    assert logits.shape == (2, CLASSES)
    assert np.isfinite(logits).all()
