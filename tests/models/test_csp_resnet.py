"""CSPResNet and CSPResNeXt compared with timm's tables and with NumPy."""

from __future__ import annotations

import math

import mxnet as mx
import pytest
from support.reference import (
    arrays,
    assert_close,
    below,
    conv,
    csp_residual_stage,
    images,
    leaky_relu,
    max_pool,
    norm,
    randomize,
)

from gluondense import get_model, get_spec, summary

# timm's configurations: depth, out_chs, groups, then the ratios expand, bottle, block
TIMM = {
    "csp_resnet50": ((3, 3, 5, 2), (128, 256, 512, 1024), 1, 2.0, 0.5, 1.0),
    "csp_resnext50": ((3, 3, 5, 2), (256, 512, 1024, 2048), 32, 1.0, 1.0, 0.5),
}


def units(name: str):
    """Yield the name, widths, kernel, groups and strides of each convolution by timm's rules."""
    depth, widths, groups, expand_ratio, bottle_ratio, block_ratio = TIMM[name]
    yield "stem", 3, 64, 7, 1, 2
    channels = 64
    for stage, (num_blocks, width) in enumerate(zip(depth, widths), start=1):
        path = f"stage{stage}"
        if stage > 1:
            yield f"{path}.down", channels, channels, 3, groups, 2
        expanded, block_width = int(width * expand_ratio), int(width * block_ratio)
        yield f"{path}.expand", channels, expanded, 1, 1, 1
        assert expanded // 2 == block_width
        hidden = int(block_width * bottle_ratio)
        for block in range(1, num_blocks + 1):
            inside = f"{path}.csp.block.block{block}.conv"
            yield f"{inside}1", block_width, hidden, 1, 1, 1
            yield f"{inside}2", hidden, hidden, 3, groups, 1
            yield f"{inside}3", hidden, block_width, 1, 1, 1
        yield f"{path}.csp.transition", block_width, expanded // 2, 1, 1, 1
        yield f"{path}.transition", expanded, width, 1, 1, 1
        channels = width


@pytest.mark.parametrize("name", TIMM)
def test_parameter_names_and_shapes_follow_timm(name):
    expected = {}
    for path, inputs, outputs, kernel, groups, _ in units(name):
        expected[f"features.{path}.conv.weight"] = (outputs, inputs // groups, kernel, kernel)
        for statistic in ("gamma", "beta", "running_mean", "running_var"):
            expected[f"features.{path}.norm.{statistic}"] = (outputs,)
    expected["output.weight"], expected["output.bias"] = (1000, TIMM[name][1][-1]), (1000,)
    parameters = get_model(name)._collect_params_with_prefix()
    assert {key: parameter.shape for key, parameter in parameters.items()} == expected


@pytest.mark.parametrize("name", TIMM)
@pytest.mark.parametrize("size", [256, 193])
def test_costs_follow_timm(name, size):
    macs, params, side = 1000 * TIMM[name][1][-1], 1000 * (TIMM[name][1][-1] + 1), size
    for path, inputs, outputs, kernel, groups, strides in units(name):
        side = (side - 1) // strides + 1
        weights = outputs * inputs // groups * kernel**2
        macs, params = macs + weights * side**2, params + weights + 2 * outputs
        side = (side - 1) // 2 + 1 if path == "stem" else side  # pooling of the stem
    cost = summary(name, (1, 3, size, size))
    assert (cost.macs, cost.params) == (macs, params)


@pytest.mark.parametrize("name", TIMM)
def test_feature_maps_follow_timm(name):
    net = get_model(name, features_only=True)
    assert [info.channels for info in net.feature_info] == list(TIMM[name][1])
    assert [info.stride for info in net.feature_info] == [4, 8, 16, 32]
    _, shapes, _ = mx.sym.Group(net(mx.sym.var("data"))).infer_shape(data=(1, 3, 193, 161))
    sides = [(49, 41), (25, 21), (13, 11), (7, 6)]
    assert [shape[2:] for shape in shapes] == sides


@pytest.mark.parametrize("name", TIMM)
def test_slope_and_eps_follow_timm(name):
    spec = get_spec(name)
    assert (spec.slope, spec.eps, spec.final_norm) == (0.01, 1e-5, False)
    nodes = get_model(name)(mx.sym.var("data")).attr_dict().values()
    slopes = [node["slope"] for node in nodes if node.get("act_type") == "leaky"]
    assert slopes == ["0.01"] * 51
    assert not [node for node in nodes if node.get("act_type") == "relu"]


def in_numpy(net, x):
    """Run a network in double precision, implemented after timm and the paper."""
    parameters, spec = arrays(net), net.spec
    features = below(parameters, "features")
    kernel = features["stem.conv.weight"].shape[-1]
    stride = 1 if spec.stem == "cifar" else 2
    x = conv(x, features["stem.conv.weight"], stride=stride, padding=kernel // 2)
    x = leaky_relu(norm(x, below(features, "stem.norm"), spec.eps), spec.slope)
    x, maps = max_pool(x) if spec.stem == "imagenet" else x, []
    for index, width in enumerate(spec.widths, start=1):
        bypass = math.floor(spec.partial_ratio * round(width * spec.expand_ratio))
        stage = below(features, f"stage{index}")
        x = csp_residual_stage(
            x, stage, bypass, spec.groups, spec.slope, spec.eps, stride=1 if index == 1 else 2
        )
        maps.append(x)
    if spec.final_norm:
        maps[-1] = x = leaky_relu(norm(x, below(features, "norm"), spec.eps), 0)
    return x.mean((2, 3)) @ parameters["output.weight"].T + parameters["output.bias"], maps


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"groups": 2, "bottleneck_ratio": 1.0, "expand_ratio": 1.0},
        {"partial_ratio": 0.25, "slope": 0.1, "eps": 0.03},
        {"slope": 0.0, "stem": "half", "final_norm": True},
        {"attention": "se", "stem": "cifar"},
        {"attention": "path", "expand_ratio": 1.6, "in_channels": 1},
    ],
    ids=str,
)
def test_network_equals_numpy(fields, tmp_path):
    fields = {
        "classes": 7,
        "num_init_features": 10,
        "num_blocks": (2, 1, 2),
        "widths": (12, 16, 20),
        **fields,
    }
    net = randomize(get_model("csp_resnet50", **fields))
    x = images(2, net.spec.in_channels, 45, 62)
    logits, maps = in_numpy(net, x)
    assert_close(net(mx.nd.array(x)), logits)
    net.save_parameters(str(tmp_path / "net.params"))
    path = tmp_path / "net.params"
    features = get_model("csp_resnet50", features_only=True, pretrained=path, **fields)
    for ours, expected in zip(features(mx.nd.array(x)), maps):
        assert_close(ours, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMM)
def test_registered_networks_equal_numpy(name):
    net = randomize(get_model(name))
    x = images(1, 3, 97, 81)
    assert_close(net(mx.nd.array(x)), in_numpy(net, x)[0])
