"""Dropout after 3x3 convolutions only, and stochastic depth."""

from __future__ import annotations

import dataclasses
import json

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from support.reference import assert_close, images, randomize
from support.small_networks import BATCH_NORMALIZED, FAMILIES

import gluondense
from gluondense import get_model, get_spec, list_models
from gluondense.blocks import DenseLayer, DualPathBlock, ResidualBlock
from gluondense.graph.fuse_dense_stages import STAGE, fuse_stages
from gluondense.graph.ir import Graph
from gluondense.graph.trace import portable_json, trace
from gluondense.native.build import load

families = pytest.mark.parametrize("name", FAMILIES)


def small(name: str, **fields):
    return get_model(name, **{"stem": "cifar", "classes": 7, **FAMILIES[name], **fields})


def operators(net, op: str) -> list[dict]:
    return [node for node in json.loads(trace(net).tojson())["nodes"] if node["op"] == op]


def batch(*side: int, count: int = 2) -> mx.nd.NDArray:
    return mx.nd.array(images(count, 3, *side))


@families
def test_without_them_the_graph_is_as_before(name):
    plain = portable_json(trace(small(name)))
    assert portable_json(trace(small(name, drop_path=0.0, dropout_after="3x3"))) == plain
    assert "Dropout" not in plain
    before = portable_json(trace(small(name, dropout=0.2)))
    assert portable_json(trace(small(name, dropout=0.2, dropout_after="conv"))) == before


@pytest.mark.parametrize("name", BATCH_NORMALIZED)  # an RDNet has no 3x3 convolutions
def test_dropout_after_3x3_convolutions_only(name):
    net = small(name, dropout=0.3, dropout_after="3x3")
    graph = Graph(trace(net), {})
    nodes = [node for node in graph.operators() if node.op == "Dropout"]
    stages = [n for n in graph.operators() if n.op == "Convolution" and "stem" not in n.name]
    sources = []
    for node in nodes:
        source = node.source()
        while source.op != "Convolution":  # CSPResNets have BN-ReLU between
            source = source.source()
        sources.append(source)
        assert node.attrs["p"] == "0.3"
    three = [node for node in stages if node.attrs["kernel"] == "(3, 3)"]
    assert {id(node) for node in sources} == {id(node) for node in three}
    # A block has one; those that downsample are extra, and a two-way layer has three.
    extra = {"csp_resnext50": 1, "csp_darknet53": 2, "csp_peleenet": 6}
    assert len(nodes) == 3 + extra.get(name, 0)


@families
def test_drop_path_rates_rise_linearly_over_all_blocks(name):
    nodes = operators(small(name, drop_path=0.4), "Dropout")
    assert [float(node["attrs"]["p"]) for node in nodes] == [0.2, 0.4]
    assert {node["attrs"]["axes"] for node in nodes} == {"(1, 2, 3)"}
    assert all(node["name"].endswith("drop_path_fwd") for node in nodes)


def test_the_rates_are_timm_s():
    rates = get_spec("csp_resnet50", drop_path=0.3).drop_path_rates((3, 3, 5, 2))
    expected = np.linspace(0, 0.3, 13)
    np.testing.assert_allclose([rate for stage in rates for rate in stage], expected)
    assert [len(stage) for stage in rates] == [3, 3, 5, 2]


BLOCKS = {
    "dense": (DenseLayer, {"in_channels": 5, "growth_rate": 4}),
    "residual": (ResidualBlock, {"channels": 8}),
    "dual": (
        DualPathBlock,
        {
            "in_channels": 12,
            "bottleneck_width": 8,
            "residual_width": 8,
            "increment": 4,
            "groups": 4,
        },
    ),
}


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("hybridize", [False, True])
def test_an_image_skips_the_block_or_its_output_is_scaled(kind, hybridize):
    block, options = BLOCKS[kind]
    rate, count = 0.4, 400
    plain, dropped = (randomize(block(**options, drop_path=p)) for p in (0.0, rate))
    dropped.hybridize(hybridize)
    x = mx.nd.array(
        np.abs(images(count, 12 if kind == "dual" else options.get("in_channels", 8), 5, 5))
    )
    inputs = (x[:, :8], x[:, 8:]) if kind == "dual" else (x,)

    def added(out):
        """Return what the block adds or appends; the ReLU behind a residual sum hides some."""
        if kind == "dual":
            return np.concatenate([(out[0] - inputs[0]).asnumpy(), out[1][:, 4:].asnumpy()], axis=1)
        return out[:, 5:].asnumpy() if kind == "dense" else out.asnumpy()

    with autograd.pause(train_mode=False):
        assert_close(added(dropped(*inputs)), added(plain(*inputs)))
    mx.random.seed(1)
    with autograd.record():
        out = dropped(*inputs)
    with autograd.record():
        full = added(plain(*inputs))
    got = added(out)
    if kind == "residual":
        skipped = np.array([np.array_equal(g, np.maximum(i, 0)) for g, i in zip(got, x.asnumpy())])
    else:
        skipped = np.abs(got).max(axis=(1, 2, 3)) < 1e-6
        scaled = full[~skipped] / (1 - rate)
        assert_close(got[~skipped], scaled, 1e-4)
    assert 0.3 < skipped.mean() < 0.5  # 400 coins: 0.4 with a deviation of 0.025


@families
def test_gradients_flow_through_the_images_that_are_not_skipped(name):
    net = randomize(small(name, drop_path=0.5))
    mx.random.seed(5)
    with autograd.record():
        loss = net(batch(16, 16, count=8)).square().sum()
    loss.backward()
    for parameter in net.collect_params().values():
        if parameter.grad_req != "null":
            grad = parameter.grad().asnumpy()
            assert np.isfinite(grad).all(), parameter.name
            assert np.abs(grad).max() > 0, parameter.name


@families
def test_exports_do_not_have_them(name, tmp_path):
    net = randomize(small(name, drop_path=0.5, dropout=0.2, dropout_after="3x3"))
    plain = randomize(small(name))
    x = batch(16, 16)
    np.testing.assert_array_equal(net(x).asnumpy(), plain(x).asnumpy())
    files = gluondense.export(net, tmp_path / "net", (1, 3, 16, 16), target="onednn")
    assert "Dropout" not in files.symbol.read_text()
    assert_close(gluondense.load_exported(files.prefix)(x), plain(x).asnumpy(), 1e-4)
    spec = json.loads(files.metadata.read_text())["spec"]
    assert (spec["drop_path"], spec["dropout_after"]) == (0.5, "3x3")
    portable = gluondense.export(net, tmp_path / "portable", (1, 3, 16, 16))
    assert_close(gluondense.load_exported(portable.prefix)(x), plain(x).asnumpy())


def test_native_training_keeps_the_layers_with_drop_path_as_they_are():
    load(STAGE)  # the operator
    plain, dropped = (
        Graph(fuse_stages(trace(small("densenet121", drop_path=p))), {}).operators()
        for p in (0.0, 0.5)
    )
    fused = [[n.name for n in nodes if n.op == STAGE] for nodes in (list(plain), list(dropped))]
    assert len(fused[0]) == 2  # each stage, with what follows
    assert sum("layer" in name for name in fused[1]) <= 1  # the first layer has the rate 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"drop_path": 1.0}, r"drop_path \(=1.0\) must be in \[0, 1\)"),
        ({"drop_path": -0.1}, "drop_path"),
        ({"dropout_after": "5x5"}, "dropout_after .* one of 'conv', '3x3'"),
        ({"drop_path": 0.1, "block_config": (1,)}, "is 0 for the first block"),
    ],
)
def test_invalid_values_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        get_model("densenet121", **fields)


@pytest.mark.parametrize("name", list_models())
def test_no_row_has_them(name):
    spec = get_spec(name)
    assert (spec.dropout_after, spec.drop_path, spec.is_stochastic) == ("conv", 0.0, False)
    assert dataclasses.replace(spec, drop_path=0.1).is_stochastic
    assert dataclasses.replace(spec, dropout=0.1).is_stochastic


@pytest.mark.parametrize("name", ["densenet121", "csp_densenet121"])
def test_native_training_draws_the_same_masks(name):
    fields = {"drop_path": 0.5, "dropout": 0.2, "dropout_after": "3x3"}
    results = []
    for backend in (None, "native"):
        net = randomize(small(name, **{**fields, "growth_rate": 8, "num_init_features": 16}))
        net.hybridize(backend=backend, static_alloc=True, static_shape=True)
        mx.random.seed(7)
        with autograd.record():
            out = net(batch(16, 16, count=4))
        out.backward()
        parameters = net.collect_params().values()
        results.append([out, *(p.grad() for p in parameters if p.grad_req != "null")])
    for stock, native in zip(*results):
        assert_close(native, stock.asnumpy(), 1e-4)
