"""Whole networks compared with independent implementations."""

from __future__ import annotations

import math

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon.model_zoo import vision
from support.reference import (
    arrays,
    assert_close,
    avg_pool,
    below,
    conv,
    dense_block,
    dual_path_block,
    images,
    max_pool,
    norm,
    norm_relu_conv,
    path_weights,
    randomize,
    relu,
)

from gluondense import environment, get_model

slow = pytest.mark.slow


def mxnet_zoo(name: str):
    return vision.get_model(name)


def gluoncv_zoo(name: str):
    return environment.import_gluoncv().model_zoo.get_model(name)


@pytest.mark.parametrize("zoo", [mxnet_zoo, pytest.param(gluoncv_zoo, marks=slow)])
@pytest.mark.parametrize(
    "name",
    ["densenet121", *(pytest.param(f"densenet{n}", marks=slow) for n in (161, 169, 201))],
)
def test_densenet_gives_the_logits_of_the_zoos(name, zoo):
    """Copy the parameters one by one, because the zoos have the same order of layers."""
    theirs, ours = zoo(name), get_model(name)
    x = mx.nd.array(images(2, 3, 224, 224))
    theirs.initialize()
    theirs(x)  # infers the shapes of its parameters
    expected = randomize(theirs)(x).asnumpy()
    pairs = list(zip(theirs.collect_params().values(), ours.collect_params().values()))
    assert len(pairs) == len(theirs.collect_params().keys()) == len(ours.collect_params().keys())
    ours.initialize()
    for their_parameter, parameter in pairs:
        assert their_parameter.shape == parameter.shape
        parameter.set_data(their_parameter.data())
    assert_close(ours(x), expected)


def stem_and_head(run_stages):
    """Return a network in NumPy: stem, the stages given, BN-ReLU, mean, classifier."""

    def run(net, x: np.ndarray) -> np.ndarray:
        parameters, spec = arrays(net), net.spec
        features = below(parameters, "features")
        x = conv(x, features["stem.conv.weight"], stride=2)
        if "stem.norm.gamma" in features:
            x = max_pool(relu(norm(x, below(features, "stem.norm"), spec.eps)))
        x = run_stages(x, features, spec)
        if spec.final_norm:
            x = relu(norm(x, below(features, "norm"), spec.eps))
        return x.mean((2, 3)) @ parameters["output.weight"].T + parameters["output.bias"]

    return run


@stem_and_head
def csp_densenet(x, features, spec):
    """Run the stages by the table of `gluondense.models.csp_densenet` and the listing."""
    theta, gamma, listing = spec.compression, spec.partial_ratio, not spec.keep_input
    for index, num_layers in enumerate(spec.block_config, start=1):
        last = index == len(spec.block_config)
        channels = x.shape[1]
        bypass = math.floor(gamma * channels)
        densenet_width = math.floor(theta * (channels + num_layers * spec.growth_rate))
        kept, part = x[:, :bypass], x[:, bypass:]
        stage = below(features, f"stage{index}")
        new = dense_block(part, below(stage, "block"), spec.eps)
        new = new[:, part.shape[1] :] if listing else new
        if spec.fusion != "first":
            inside = new.shape[1]
            new = norm_relu_conv(new, below(stage, "transition"), eps=spec.eps)
            halved = spec.fusion == "both" or last or listing
            assert new.shape[1] == (inside // 2 if halved else densenet_width - bypass)
        if spec.attention == "path":
            kept, new = path_weights(kept, new, below(stage, "attention"))
        x = np.concatenate([kept, new], 1)
        if last:
            return x
        if spec.fusion != "last":
            inside = x.shape[1]
            x = norm_relu_conv(x, below(features, f"transition{index}"), eps=spec.eps)
            assert x.shape[1] == (math.floor(theta * inside) if listing else densenet_width)
        if spec.downsample or spec.fusion != "last":
            x = avg_pool(x)
    raise AssertionError("unreachable")


@stem_and_head
def dpn(x, features, spec):
    for index, num_blocks in enumerate(spec.num_blocks, start=1):
        paths, stride = (x, None), 1 if index == 1 else 2
        for block in range(1, num_blocks + 1):
            parameters = below(features, f"stage{index}.block{block}")
            paths = dual_path_block(*paths, parameters, spec.groups, stride, spec.eps)
            stride = 1
        x = np.concatenate(paths, 1)
        width = spec.residual_width * 2 ** (index - 1)
        assert x.shape[1] == width + (num_blocks + 2) * spec.increments[index - 1]
    return x


@pytest.mark.parametrize("name", ["csp_densenet121", "csp_densenet121_listing"])
@pytest.mark.parametrize("fusion", ["both", "first", "last"])
@pytest.mark.parametrize("gamma", [0.25, 0.5, 0.7])
@pytest.mark.parametrize("attention", [None, "se", "path"])
def test_csp_densenet_equals_numpy(name, fusion, gamma, attention):
    net = get_model(
        name,
        classes=7,
        in_channels=2,
        num_init_features=13,
        growth_rate=7,
        block_config=(2, 3, 2),
        compression=0.6,
        eps=0.03,
        fusion=fusion,
        partial_ratio=gamma,
        attention=attention,
    )
    x = images(2, 2, 45, 62)
    assert_close(randomize(net)(mx.nd.array(x)), csp_densenet(net, x))


@pytest.mark.parametrize("name", ["dpn68", "dpn92_listing"])
@pytest.mark.parametrize("attention", [None, "se", "path"])
def test_dpn_equals_numpy(name, attention):
    net = get_model(
        name,
        classes=7,
        in_channels=2,
        stem="half",
        num_init_features=9,
        num_blocks=(2, 1, 3),
        increments=(3, 5, 4),
        bottleneck_width=8,
        residual_width=10,
        groups=4,
        attention=attention,
    )
    assert net.spec.eps == (1e-5 if "listing" in name else 1e-3)
    x = images(2, 2, 21, 30)
    assert_close(randomize(net)(mx.nd.array(x)), dpn(net, x))
