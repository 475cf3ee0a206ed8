from __future__ import annotations

import json

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn
from support.exported_networks import TINY, VARIANTS, build, in_stock_mxnet, of_case

import gluondense
from gluondense.deploy import Calibration, load_exported
from gluondense.deploy.quantization.equalize import (
    convolve_batch_norms,
    equalize_channels,
    equalize_grouped_filters,
    is_affine,
    tensor_name,
)
from gluondense.deploy.quantization.metrics import QuantizationMetrics
from gluondense.deploy.targets import lower_to
from gluondense.graph.inference_passes import optimize
from gluondense.graph.ir import Graph
from gluondense.graph.ranges import as_block, collect_ranges, tensor_names
from gluondense.graph.trace import trace

# Variants whose nodes have unique names, by which tensors are looked up.
UNIQUE_NAMES = [name for name, (_, fields) in VARIANTS.items() if fields.get("attention") != "path"]
SIZES = {"exported": (8, 32, 32), "one": (1, 32, 32), "odd": (2, 45, 37)}


def images(channels=3, count=64, side=32, seed=0):
    random = np.random.default_rng(seed)
    return random.standard_normal((count, channels, side, side)).astype("float32")


def off(got, wanted):
    return np.linalg.norm(got - wanted) / np.linalg.norm(wanted)


def quantized_layers(files):
    """Names of the quantized layers of an export (True) and of the others (False)."""
    found = {True: set(), False: set()}
    for node in json.loads(files.symbol.read_text())["nodes"]:
        for part in node.get("subgraphs", []):
            layers = [n for n in part["nodes"] if n["op"] in ("Convolution", "FullyConnected")]
            eight = node.get("attrs", {}).get("quantized", "false").lower() == "true"
            found[eight] |= {layer["name"] for layer in layers}
    return found


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Outputs of the networks and of stock MXNet, by variant, size and API."""
    folder = tmp_path_factory.mktemp("int8")
    inputs, expected = {}, {}
    for variant, (name, fields) in VARIANTS.items():
        net = build(name, fields)
        channels = net.spec.in_channels
        calibration = Calibration(images(channels), max_changed=0.2)
        shape = (1, channels, 32, 32)
        gluondense.export(net, folder / variant, shape, "int8", calibration=calibration)
        for size, (batch, height, width) in SIZES.items():
            x = np.random.default_rng(1).standard_normal((batch, channels, height, width))
            inputs[f"{variant}|{size}"] = x.astype("float32")
            outputs = net(mx.nd.array(x))
            outputs = outputs if isinstance(outputs, list) else [outputs]
            for index, output in enumerate(outputs):
                expected[f"{variant}|{size}|{index}"] = output.asnumpy()
    return expected, in_stock_mxnet(folder, inputs)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("api", ["block", "module"])
def test_stock_mxnet_gives_nearly_the_same_outputs(plain, variant, size, api):
    expected, found = plain
    wanted, got = of_case(expected, variant, size), of_case(found, variant, f"{size}|{api}")
    assert len(got) == len(wanted) == (2 if variant.endswith("features") else 1)
    for one, other in zip(got, wanted):
        assert one.dtype == np.float32
        assert off(one, other) < 0.15


def prepared(name, fields):
    """A network's graph after the inference passes that precede quantization."""
    net = build(name, fields)
    params = {key: value.data().asnumpy() for key, value in net.collect_params().items()}
    graph = optimize(Graph(trace(net), params), skip="fuse_batch_norm_relu")
    x = images(net.spec.in_channels, 4)
    return graph, x, net(mx.nd.array(x))


def outputs_of(graph, x):
    outputs = as_block(*graph.to_symbol())(mx.nd.array(x))
    return outputs if isinstance(outputs, list) else [outputs]


@pytest.mark.parametrize("variant", UNIQUE_NAMES)
def test_the_passes_keep_the_outputs(variant):
    graph, x, expected = prepared(*VARIANTS[variant])
    expected = expected if isinstance(expected, list) else [expected]

    def check():
        for got, wanted in zip(outputs_of(graph, x), expected):
            assert off(got.asnumpy(), wanted.asnumpy()) < 1e-5

    norms = sum(node.op == "BatchNorm" for node in graph.operators())
    assert convolve_batch_norms(graph, x.shape) == norms
    check()
    grouped = [n for n in graph.operators() if n.attrs.get("num_group", "1") != "1"]
    # A layer normalization follows the depthwise convolutions of RDNet: they stay in float32.
    depthwise = {node.name for node in grouped if node.attrs["kernel"] == "(7, 7)"}
    assert equalize_grouped_filters(graph) == depthwise
    for node in grouped:
        if not is_affine(node) and node.name not in depthwise:
            largest = np.abs(graph.array(node, 1)).max(axis=(1, 2, 3))
            np.testing.assert_allclose(largest, 1, rtol=1e-6)
    check()
    symbol, params = graph.to_symbol()
    ranges = collect_ranges(symbol, params, tensor_names(symbol, params), [x], "minmax")
    changed = equalize_channels(graph, ranges)
    assert bool(changed) == any(is_affine(node) for node in graph.operators())
    check()


def test_each_channel_uses_the_full_int8_range():
    graph, x, _ = prepared("densenet121", TINY)
    convolve_batch_norms(graph, x.shape)
    symbol, params = graph.to_symbol()
    changed = equalize_channels(
        graph, collect_ranges(symbol, params, tensor_names(symbol, params), [x], "minmax")
    )
    # The stem, one convolution a layer, the transition: all that is concatenated or normalized.
    assert len(changed) == 6
    assert set(changed.values()) == {(0.0, 1.0)}
    symbol, params = graph.to_symbol()
    for found in collect_ranges(symbol, params, list(changed), [x], "minmax").values():
        np.testing.assert_allclose(found.channel_high, 1, rtol=1e-4)
        assert found.channel_low.min() >= 0
    ends = {tensor_name(node) for node in graph.operators() if node.is_like("Activation")}
    assert set(changed) <= ends


def test_parts_concatenated_with_a_sum_get_its_range():
    graph, x, _ = prepared(*VARIANTS["dpn"])
    convolve_batch_norms(graph, x.shape)
    symbol, params = graph.to_symbol()
    changed = equalize_channels(
        graph, collect_ranges(symbol, params, tensor_names(symbol, params), [x], "minmax")
    )
    signed = {name: found for name, found in changed.items() if found[0] < 0}
    assert signed
    assert all(low == -high for low, high in signed.values())


def small(*layers, channels=8):
    net = nn.HybridSequential(prefix="small_")
    with net.name_scope():
        net.add(*layers)
    net.initialize(mx.init.Xavier())
    net(mx.nd.zeros((1, channels, 8, 8))).wait_to_read()
    return net


def exported(net, path, x, **options):
    calibration = Calibration(x, **options)
    return gluondense.export(net, path, (1, *x.shape[1:]), "int8", calibration=calibration)


def test_small_filters_keep_their_precision():
    net = small(nn.Conv2D(16, 3, padding=1, prefix="conv_"))
    weight = net[0].weight
    sizes = 10.0 ** -np.arange(16).reshape(16, 1, 1, 1) / 4
    weight.set_data(weight.data() * mx.nd.array(np.repeat(sizes, 8, axis=1)))
    x = images(8, 4, 8)
    wanted = net(mx.nd.array(x)).asnumpy()
    symbol = trace(net)
    params = {key: value.data().asnumpy() for key, value in net.collect_params().items()}
    # The convolution's output has one scale, so each filter is compared separately.
    calibration = Calibration(x).read(x.shape, None)
    lowered = lower_to("int8", symbol, params, x.shape, calibration)
    got = as_block(mx.sym.load_json(lowered.graph), lowered.params)(mx.nd.array(x)).asnumpy()
    step = np.abs(wanted).max() / 127
    error = np.abs(got - wanted).max(axis=(0, 2, 3))
    # With one scale for all filters' weights the small ones would be off by far more than a step.
    assert (error < 2.5 * step).all()
    assert error[8:].max() < 0.75 * step


def test_grouped_filters_of_different_sizes_are_exact(tmp_path):
    conv = nn.Conv2D(32, 3, padding=1, groups=4, prefix="grouped_")
    net = small(conv, nn.Activation("relu"), nn.Conv2D(8, 1, prefix="behind_"))
    random = np.random.default_rng(0)
    sizes = random.uniform(0.2, 3, (32, 1, 1, 1))
    conv.weight.set_data(conv.weight.data() * mx.nd.array(np.tile(sizes, (1, 2, 3, 3))))
    x = images(8, 16, 8)
    block = load_exported(exported(net, tmp_path / "net", x).prefix)
    assert block.metadata.quantization["kept"] == []
    assert off(block(mx.nd.array(x)).asnumpy(), net(mx.nd.array(x)).asnumpy()) < 0.03


def test_grouped_convolutions_that_would_be_wrong_are_excluded(tmp_path):
    net = small(nn.Conv2D(8, 1, prefix="before_"), nn.Conv2D(32, 3, groups=4, prefix="grouped_"))
    x = images(8, 16, 8)
    files = exported(net, tmp_path / "net", x)
    about = load_exported(files.prefix).metadata.quantization
    assert about["kept"] == ["grouped_fwd"]
    assert quantized_layers(files) == {True: {"before_fwd"}, False: {"grouped_fwd"}}


def test_excluded_layers_are_not_quantized(tmp_path):
    net, x = build(), images()
    patterns = ("*stem*", "densenet121_output_fwd")
    files = exported(net, tmp_path / "net", x, exclude=patterns, max_changed=1.0)
    about = load_exported(files.prefix).metadata.quantization
    assert about["kept"] == ["densenet121_stem_conv_fwd", "densenet121_output_fwd"]
    layers = quantized_layers(files)
    assert layers[False] == set(about["kept"])
    assert len(layers[True]) + 2 == about["layers"] == 17


def test_layers_are_excluded_until_the_classes_agree(tmp_path):
    net, x = build(), images()
    # Random weights give all images one class; now a small difference decides.
    net.output.bias.set_data(net.output.bias.data() - net(mx.nd.array(x)).mean(axis=0))
    free = load_exported(exported(net, tmp_path / "free", x, max_changed=1.0).prefix)
    strict = load_exported(exported(net, tmp_path / "strict", x, max_changed=0.03).prefix)
    free, strict = free.metadata.quantization, strict.metadata.quantization
    assert free["kept"] == []
    assert free["agreement"] < 0.95
    assert strict["agreement"] >= 0.97 - 1 / 64
    assert 0 < len(strict["kept"]) <= strict["layers"] == 17
    assert strict["error"] < free["error"]


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
def test_metadata_records_the_quantization(tmp_path, method):
    net, x = build(), images(count=20)
    files = exported(net, tmp_path / "net", x, method=method, count=10)
    block = load_exported(files.prefix)
    about = block.metadata.quantization
    assert (about["method"], about["images"], about["layers"]) == (method, 10, 17)
    x = mx.nd.array(x[::2])
    metrics = QuantizationMetrics.compare([block(x).asnumpy()], [net(x).asnumpy()])
    assert about["error"] == pytest.approx(metrics.error, rel=1e-3)
    assert about["agreement"] == metrics.agreement
    other = gluondense.export(net, tmp_path / "float", (1, 3, 32, 32))
    assert load_exported(other.prefix).metadata.quantization is None


def test_the_same_network_and_images_give_the_same_bytes(tmp_path):
    x = images()
    first = exported(build(), tmp_path / "a" / "net", x)
    second = exported(build(), tmp_path / "b" / "net", x)
    for one, other in zip(first, second):
        assert one.read_bytes() == other.read_bytes()


def test_the_network_is_left_as_it_was(tmp_path):
    net, x = build(), images()
    before = net(mx.nd.array(x)).asnumpy()
    exported(net, tmp_path / "net", x)
    np.testing.assert_array_equal(net(mx.nd.array(x)).asnumpy(), before)


@pytest.mark.parametrize(
    ("target", "calibration", "words"),
    [
        ("int8", None, "target='int8' needs calibration=: some hundred images"),
        ("portable", images(), "needs no calibration: leave it out"),
        ("int8", images(1), r"shape \(64, 1, 32, 32\), but must be"),
        ("int8", "nowhere", "mean and std"),
        ("int8", Calibration(images(), exclude=("*norm9*",)), "is the name of no layer; some are"),
    ],
)
def test_invalid_calibrations_are_refused(tmp_path, target, calibration, words):
    with pytest.raises(ValueError, match=words) as caught:
        gluondense.export(
            build(), tmp_path / "net", (1, 3, 32, 32), target, calibration=calibration
        )
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_other_types_are_refused(tmp_path):
    net = build()
    net.cast("float64")
    with pytest.raises(ValueError, match="is for float32 networks, not float64"):
        exported(net, tmp_path / "net", images())


def test_a_network_that_overflows_is_refused(tmp_path):
    net = build()
    net.output.weight.set_data(mx.nd.ones_like(net.output.weight.data()) * np.float32(3e38))
    with pytest.raises((RuntimeError, ValueError), match="not finite"):
        exported(net, tmp_path / "net", images())
    assert not list(tmp_path.iterdir())
