"""The native inference operator: outputs, lowering, compilation, and invalid programs."""

from __future__ import annotations

import importlib
import json
import re

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn
from support.exported_networks import TINY, VARIANTS, as_list, assert_close, build, variants
from support.native_programs import (
    BLOCKS,
    SHAPES,
    block,
    conv,
    optimized,
    outputs,
    seq,
)

import gluondense
from gluondense import native
from gluondense.deploy.targets import lower_to
from gluondense.graph.trace import trace
from gluondense.native.program import lower, packing
from gluondense.native.program.memory_plan import MemoryPlan

pytestmark = pytest.mark.usefixtures("native_operator")
build_module = importlib.import_module("gluondense.native.build")  # native.build is a function


@pytest.fixture(scope="module")
def folder(tmp_path_factory, native_operator):
    """Exports of all variants, inputs, and the networks' outputs."""
    folder = tmp_path_factory.mktemp("native")
    random, inputs, expected = np.random.default_rng(0), {}, {}
    for variant in variants("native"):
        net = build(*VARIANTS[variant])
        gluondense.export(net, folder / variant, (1, net.spec.in_channels, 32, 32), "native")
        for shape in SHAPES:
            x = random.standard_normal((shape[0], net.spec.in_channels, *shape[1:]))
            case = f"{variant}|{shape}"
            inputs[case] = x.astype("float32")
            for n, output in enumerate(as_list(net(mx.nd.array(x)))):
                expected[f"{case}|{n}"] = output
    np.savez(folder / "inputs.npz", **inputs)
    return folder, expected


@pytest.mark.parametrize(("isa", "threads"), [("base", 1), ("avx2", 3), ("avx512", 2)])
def test_outputs_are_the_networks_for_each_instruction_set(folder, isa, threads):
    folder, expected = folder
    found = outputs(folder, isa, threads)
    assert set(found) == set(expected)
    for case, wanted in expected.items():
        assert_close(found[case], wanted)


def steps(variant):
    """Return the kinds of the steps of a network's program."""
    text, _ = lower.Lowering(optimized(variant)).lower()
    return [line.split()[0] for line in text.splitlines() if not line.startswith(("gluon", "map"))]


def test_a_densenet_needs_no_copies():
    kinds = steps("densenet")
    assert kinds.count("copy") == 0
    # Two for each layer, the stem's, the transition's, and the final dense layer.
    assert kinds.count("conv") == 2 * 4 + 3
    # The normalizations of the transition and of the end, which poolings read.
    assert kinds.count("affine") == 2


def test_a_dual_path_network_needs_few_copies():
    assert "affine" in steps("dpn")
    assert steps("dpn").count("copy") <= 4


def test_a_cross_stage_partial_network_needs_one_copy():
    # Of the part that bypasses the stage, which is placed elsewhere.
    assert steps("csp-last").count("copy") <= 1


def test_nested_concatenations_share_one_map():
    graph = optimized("densenet")
    lowering = lower.Lowering(graph)
    concats = [node for node in lowering.operators if node.op == "Concat"]
    views = [lowering.plan.slice_of(node) for node in concats]
    assert isinstance(lowering.plan, MemoryPlan)
    assert len(concats) == 4
    assert len({view.map for view in views}) == 2  # one a stage
    assert all(view.channel == 0 for view in views)


@pytest.mark.parametrize("groups", [1, 2, 8, 16])
@pytest.mark.parametrize("each", [1, 3, 6, 12, 16, 24, 40])
def test_packed_filters_compute_the_convolution(groups, each):
    random = np.random.default_rng(0)
    weight, bias = (
        random.standard_normal((groups * each, 5, 1, 1)),
        random.standard_normal(groups * each),
    )
    x = random.standard_normal(groups * 5)
    sizes, (filters, biases) = packing.pack_filters(weight, bias, groups)
    found = []
    for panel in range(sizes["blocks"]):
        first = panel // sizes["block_share"] * sizes["block_step"]
        part = x[first : first + sizes["block_in"]]
        found += list((part @ filters[panel, 0, 0] + biases[panel])[: sizes["block_out"]])
    wanted = np.einsum("gi,goi->go", x.reshape(groups, 5), weight.reshape(groups, each, 5)).ravel()
    np.testing.assert_allclose(found[: groups * each], wanted + bias, rtol=1e-5, atol=1e-5)


def test_changed_weights_are_packed_again(tmp_path):
    fields = {**TINY, "growth_rate": 32}
    net = build("densenet121", fields)
    gluondense.export(net, tmp_path / "net", (1, 3, 128, 128), "native")
    block = gluondense.load_exported(tmp_path / "net")
    x = mx.nd.random.normal(shape=(1, 3, 128, 128))
    before = block(x).asnumpy()
    (weights,) = block.collect_params().values()
    weights.set_data(weights.data() * 1.01)
    after = block(x).asnumpy()
    assert np.abs(after - before).max() > 1e-3 * np.abs(before).max()
    weights.set_data(weights.data() / 1.01)
    assert_close(block(x).asnumpy(), before)


def mean(F, x, **options):
    return F.Pooling(x, pool_type="avg", **{"kernel": (1, 1), **options})


@pytest.mark.parametrize("name", BLOCKS)
def test_networks_with_unusual_layers(name, tmp_path):
    net, x = block(name)
    gluondense.export(net, tmp_path / "net", (1, 3, 17, 17), "native")
    found = gluondense.load_exported(tmp_path / "net")(x)
    for got, wanted in zip(as_list(found), as_list(net(x))):
        assert_close(got, wanted)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((nn.Flatten(),), r"Flatten\(of more than one pixel\)"),
        ((nn.Dense(3),), r"FullyConnected\(of more than one pixel\)"),
        ((nn.LeakyReLU(1.5),), r"LeakyReLU\(slope=1.5\)"),
        ((nn.AvgPool2D(2, ceil_mode=True),), r"Pooling\(pooling_convention=full\)"),
        ((conv(3, 3, dilation=2),), r"Convolution\(dilate=\(2, 2\)\)"),
    ],
)
def test_unsupported_operators_are_named(layers, message, tmp_path):
    net = seq(conv(4), *layers)
    net.initialize()
    with pytest.raises(ValueError, match=f"has no step for {message} .*: use target='onednn'"):
        gluondense.export(net, tmp_path / "net", (1, 3, 16, 16), "native")


@pytest.mark.parametrize("variant", sorted(set(VARIANTS) - set(variants("native"))))
def test_unsupported_networks_are_refused(variant, tmp_path):
    net = build(*VARIANTS[variant])
    shape = (1, net.spec.in_channels, 32, 32)
    with pytest.raises(ValueError, match=r"target='native' has no step for .*: use target='onednn"):
        gluondense.export(net, tmp_path / "net", shape, "native")
    assert list(tmp_path.iterdir()) == []


def test_too_small_images_are_refused(tmp_path):
    net = build()
    gluondense.export(net, tmp_path / "net", (1, 3, 32, 32), "native")
    block = gluondense.load_exported(tmp_path / "net")
    with pytest.raises(mx.MXNetError, match="too small for this network"):
        block(mx.nd.zeros((1, 3, 4, 4))).asnumpy()


# Valid programs, and edits that make them invalid: a row for each rule of parse.cc and validate.cc.
VALID = """gluondense format=1 blob=4096 bytes=4096
map channels=3 border=1
map channels=4
map channels=4 bytes=1
map channels=4 bytes=1 edge=0
load out=0,0,3
conv in=0,0,3 out=1,0,4 kernel=3,3 pad=1,1 blocks=1 block_in=3 block_out=4 weight=0 bias=0
pool in=1,0,4 out=1,0,4 kernel=2,2 stride=2,2
store in=1,0,4 output=0 flat=0
"""
POOL = "pool in=1,0,4 out=1,0,4 kernel=2,2 stride=2,2"
AFFINE = "affine scale=0 shift=0"
CONV = "conv blocks=1 block_in=4 block_out=4 weight=0 bias=0"
INVALID = [
    ("output=0", "output=0 output=0", "repeats a word"),
    ("pad=1,1", "pad=1,1,1", "pad has too many numbers"),
    # Words of another kind of step, which were read nevertheless (issue 18, point 20).
    ("load out=0,0,3", "load in=3,0,4 out=0,0,3", "'load' has no word 'in'"),
    ("store in=1,0,4", "store out=9,0,4 in=1,0,4", "'store' has no word 'out'"),
    ("pool in=1,0,4", "pool output=1 in=1,0,4", "'pool' has no word 'output'"),
    ("map channels=3", "map weight=0 channels=3", "'map' has no word 'weight'"),
    # Arrays of another data type.
    ("weight=0", "weight=0 out_scale=0 out_shift=0", "array for maps of another data type"),
    ("store in=1,0,4", "store scale=0 shift=0 in=1,0,4", "array for maps of another data type"),
    ("format=1", "format=2", "another format"),
    ("blob=4096", "blob=1e300", "negative, broken or too large"),
    ("channels=3", "channels=x", "'channels=x' is not name=numbers"),
    ("channels=3", "channels=nan", "is not name=numbers"),
    ("channels=3", "channels", "is not name=numbers"),
    ("channels=3", "3", "'3' is not name=numbers"),
    ("channels=3", "channels=0", "no or too many channels"),
    ("channels=3", "channels=-3", "negative, broken or too large"),
    ("channels=3", "channels=2.5", "negative, broken or too large"),
    ("border=1", "border=1073741824", "too large"),
    ("border=1", "border=100", "padding is too wide"),
    # More memory than the steps need (issue 18, point 20: one edit asked for 87 GB).
    ("map channels=4\n", "map channels=1000000\n", "channels that no step writes"),
    ("map channels=4\n", "map channels=4 border=64\n", "padding that no convolution reads"),
    ("blob=4096", "blob=80000", "larger than what the steps read"),
    ("bytes=4096", "bytes=80000", "larger than what the steps read"),
    ("map channels=4\n", "map channels=1048576\n" * 5, "the maps have too many channels"),
    ("map channels=4\n", "map channels=4\n" * 8192, "too many maps or steps"),
    ("load out=0,0,3\n", "load out=0,0,3\n" * 16384, "too many maps or steps"),
    ("channels=4 bytes=1 edge=0", "channels=4 bytes=1 edge=4096", "bytes beyond"),
    ("channels=4 bytes=1 edge=0", "channels=4 edge=0", "only maps of bytes have padding values"),
    ("load out=0,0,3", "dance out=0,0,3", "no step 'dance'"),
    ("load out=0,0,3", "load", "lacks a map"),
    ("load out=0,0,3", "load out=0,0", "out has too few numbers"),
    ("load out=0,0,3", "load out=0,1,3", "channels that no map has"),
    ("load out=0,0,3", "load out=9,0,3", "channels that no map has"),
    ("load out=0,0,3", "load out=0,0,2", "no step before it has written"),
    ("load out=0,0,3", "load out=2,0,4", "beyond the blob"),
    ("conv in=0,0,3", "conv", "lacks a map"),
    ("conv in=0,0,3", "conv in=1,0,3", "no step before it has written"),
    ("in=0,0,3 out=1,0,4", "in=0,0,3 out=2,0,4", "different data types"),
    ("in=0,0,3 out=1,0,4", "in=0,0,3 add=0,0,3 out=1,0,4", "different numbers of channels"),
    ("kernel=3,3", "kernel=0,3", "kernel or stride is 0"),
    ("kernel=3,3", "kernel=3,3 stride=0,1", "kernel or stride is 0"),
    ("kernel=3,3", "kernel=99,99", "kernel is too large"),
    ("pad=1,1", "pad=2,2", "reads beyond the padding"),
    ("pad=1,1", "pad=1,1 slope=2", "slope is above 1"),
    ("pad=1,1", "pad=1,1 add_last=1", "adds no residual last"),
    ("kernel=2,2", "kernel=2,2 ceil=1", "rounds up has an average"),
    ("kernel=2,2 stride=2,2", "kernel=2,2 max=1 stride=3,1 ceil=1", "window outside the image"),
    (POOL, "copy in=1,0,4 out=1,0,4 silu=1 slope=0", "activation has a residual or a slope"),
    ("pad=1,1", "pad=1,1 scale=0 shift=0", "only a 1x1 convolution has a prologue"),
    ("block_out=4", "block_out=64", "empty or too wide"),
    ("blocks=1", "blocks=2", "not those of its channels"),
    ("block_in=3", "block_in=4", "not those of its channels"),
    ("block_in=3", "block_in=3 block_groups=2", "panel's groups are not of equal width"),
    ("block_in=3", "block_in=3 block_groups=0", "panel's groups are not of equal width"),
    ("weight=0", "weight=4000", "beyond the blob"),
    ("bias=0", "bias=4090", "beyond the blob"),
    ("bias=0", "", "beyond the blob"),
    ("pool in=1,0,4 out=1,0,4", "pool in=1,0,3 out=1,0,4", "different numbers of channels"),
    ("kernel=2,2", "kernel=2,2 pad=2,2", "window is outside the image"),
    ("kernel=2,2", "kernel=65536,65536", "kernel is too large"),
    (POOL, "affine in=1,0,4 out=1,0,4", "beyond the blob"),
    (POOL, "affine in=1,0,4 out=1,0,4 scale=0", "beyond the blob"),
    (POOL, f"{AFFINE} in=1,0,3 out=1,0,4", "different numbers of channels"),
    (POOL, f"{AFFINE} in=1,0,4 out=1,0,4 slope=2", "slope is above 1"),
    (POOL, f"{AFFINE} in=1,0,4 out=1,0,4 flip=0", "array for maps of another data type"),
    # Conversions between data types.
    (POOL, "affine in=1,0,4 out=2,0,4", "beyond the blob"),
    (POOL, "affine in=1,0,4 out=2,0,4 scale=0 shift=4093", "beyond the blob"),
    (POOL, f"{AFFINE} in=1,0,3 out=2,0,4", "different numbers of channels"),
    (POOL, f"{AFFINE} in=1,0,4 out=2,0,4 slope=0", "conversion of a data type has an activation"),
    (POOL, f"{AFFINE} in=1,0,4 out=2,0,4 zero=0", "array for maps of another data type"),
    (POOL, f"{CONV} in=1,0,4 out=1,0,4 shift=0", "beyond the blob"),
    (POOL, f"{CONV} in=1,0,4 out=1,0,4 scale=0", "array for maps of another data type"),
    (POOL, "copy in=1,0,4 out=1,0,4 slope=2", "slope is above 1"),
    (POOL, "copy in=1,0,4 out=1,0,4 scale=0", "array for maps of another data type"),
    (POOL, "copy in=1,0,4 out=0,0,3", "different numbers of channels"),
    (POOL, "copy in=1,0,4 out=2,0,4", "different data types"),
    (POOL, "global in=1,0,4 out=2,0,4", "global pooling gives floats"),
    ("output=0", "output=1", "missing or stored twice"),
    ("output=0", "", "missing or stored twice"),
    ("store in=1,0,4 output=0 flat=0\n", "", "there is no output"),
]
# The steps of detectors' necks.
VALID_NECK = """gluondense format=1 blob=16 bytes=64
map channels=4
map channels=16
map channels=4
map channels=4 bytes=1
map channels=4
load out=0,0,4
resample in=0,0,4 out=1,0,16 down=2
resample in=1,4,4 like=0,0,4 out=2,0,4 up=3
combine in=0,0,4 with=2,0,4 out=4,0,4 gate=1
store in=4,0,4 output=0 flat=0
"""
DOWN, GATED = "in=0,0,4 out=1,0,16 down=2", "in=0,0,4 with=2,0,4 out=4,0,4"
INVALID_NECK = [
    (DOWN, "in=0,0,4 out=1,0,16 down=3", "another number of channels"),
    (DOWN, "in=0,0,4 out=1,0,16 down=0", "no or a too large factor"),
    (DOWN, "in=0,0,4 out=1,0,16 down=1000", "no or a too large factor"),
    (DOWN, f"{DOWN} up=2", "no or a too large factor"),
    ("up=3", "up=0", "no or a too large factor"),
    ("out=2,0,4 up=3", "out=3,0,4 up=3", "different data types"),
    ("like=0,0,4", "like=4,0,4", "no step before it has written"),
    ("like=0,0,4", "like=9,0,4", "channels that no map has"),
    (GATED, "in=0,0,4 out=4,0,4", "combines one map"),
    (GATED, "in=0,0,4 with=2,0,3 out=4,0,4", "different numbers of channels"),
    (GATED, "in=0,0,3 with=2,0,4 out=4,0,4", "different numbers of channels"),
    (
        "store",
        "load out=3,0,4 scale=0 shift=0\ncombine in=3,0,4 with=3,0,4 out=3,0,4\nstore",
        "bytes cannot be combined",
    ),
]
VALID_INT8 = """gluondense format=1 blob=4096 bytes=4096
map channels=3 bytes=1
map channels=4 bytes=1
map channels=4
load out=0,0,3 scale=0 shift=0
conv in=0,0,3 out=1,0,4 blocks=1 block_in=3 block_out=4 weight=0 bias=0 scale=0 flip=0 zero=0
affine in=1,0,4 out=1,0,4 flip=0 zero=0
pool in=1,0,4 out=1,0,4 kernel=2,2
copy in=1,0,4 add=1,0,4 out=1,0,4 scale=0 shift=0 add_scale=0 out_scale=0 out_shift=0
global in=1,0,4 out=2,0,4 scale=0 shift=0
store in=2,0,4 output=0
"""
# The steps of RDNet, which exist over floats only.
VALID_MIXER = """gluondense format=1 blob=4096 bytes=64
map channels=3 border=3
map channels=3 border=1
map channels=3
map channels=3
map channels=4 bytes=1
load out=0,0,3
depthwise in=0,0,3 out=1,0,3 kernel=7,7 pad=3,3 weight=0 bias=0
layer_norm in=1,0,3 out=1,0,3 eps=1e-06 scale=0 shift=0
conv in=1,0,3 out=2,0,3 eps=1e-06 gelu=1 blocks=1 block_in=3 block_out=3 weight=0 bias=0
depthwise in=1,0,3 add=2,0,3 out=1,0,3 kernel=3,3 pad=1,1 weight=0 bias=0 slope=0 add_last=1
global in=2,0,3 out=3,0,3
copy in=3,0,3 out=3,0,3 hard_sigmoid=1
gate in=2,0,3 gate=3,0,3 out=1,0,3
store in=1,0,3 output=0 flat=0
"""
DEPTHWISE, GATE = "in=0,0,3 out=1,0,3 kernel=7,7", "gate in=2,0,3 gate=3,0,3 out=1,0,3"
BYTES = "load out=4,0,4 scale=0 shift=0\n"
BYTES_CONV = (
    f"{BYTES}conv in=4,0,4 out=4,0,4 blocks=1 block_in=4 block_out=4 weight=0 bias=0 scale=0"
)
INVALID_MIXER = [
    (DEPTHWISE, "in=0,0,2 out=1,0,3 kernel=7,7", "different numbers of channels"),
    (DEPTHWISE, "in=0,0,3 out=4,0,3 kernel=7,7", "different data types"),
    (DEPTHWISE, f"add=0,0,2 {DEPTHWISE}", "different numbers of channels"),
    (DEPTHWISE, f"{DEPTHWISE} slope=2", "slope is above 1"),
    (DEPTHWISE, f"{DEPTHWISE} add_last=1", "adds no residual last"),
    (DEPTHWISE, f"{DEPTHWISE} gelu=1", "'depthwise' has no word 'gelu'"),
    ("kernel=7,7", "kernel=0,7", "kernel or stride is 0"),
    ("kernel=7,7", "kernel=99,99", "kernel is too large"),
    ("kernel=7,7 pad=3,3", "kernel=7,7 pad=3,4", "reads beyond the padding"),
    ("kernel=7,7 pad=3,3", "kernel=7,7 pad=2,2", "padding that no convolution reads"),
    ("weight=0", "weight=3320", "beyond the blob"),
    ("bias=0", "bias=4081", "beyond the blob"),
    ("load", f"{BYTES}depthwise in=4,0,4 out=4,0,4 weight=0 bias=0\nload", "no such step"),
    ("eps=1e-06 scale=0 shift=0", "eps=-1 scale=0 shift=0", "negative eps"),
    ("eps=1e-06 scale=0", "eps=1e-06 scale=4094", "beyond the blob"),
    ("shift=0\nconv", "shift=4094\nconv", "beyond the blob"),
    ("layer_norm in=1,0,3", "layer_norm in=1,0,2", "different numbers of channels"),
    ("load", f"{BYTES}layer_norm in=4,0,4 out=4,0,4 scale=0 shift=0\nload", "no such step"),
    ("eps=1e-06 gelu=1", "eps=1e-06 gelu=1 scale=0 shift=0", "array for maps of another data type"),
    ("eps=1e-06 gelu=1", "eps=1e-06 gelu=1 kernel=3,3 pad=1,1", "only a 1x1 convolution"),
    ("eps=1e-06 gelu=1", "eps=1e-06 gelu=1 slope=0", "GELU has a residual or a slope"),
    ("in=1,0,3 out=2,0,3 eps", "in=1,0,3 add=1,0,3 out=2,0,3 eps", "GELU has a residual"),
    ("load", f"{BYTES_CONV} gelu=1\nload", "bytes have no GELU"),
    ("load", f"{BYTES_CONV} eps=0\nload", "bytes have no GELU and no layer normalization"),
    ("hard_sigmoid=1", "hard_sigmoid=1 gelu=1", "activation has a residual or a slope"),
    ("hard_sigmoid=1", "hard_sigmoid=1 slope=0", "activation has a residual or a slope"),
    (
        "load",
        f"{BYTES}copy in=4,0,4 out=4,0,4 gelu=1 scale=0 shift=0 out_scale=0 out_shift=0\nload",
        "bytes have no such activation",
    ),
    ("gate=3,0,3 ", "", "lacks a map"),
    ("gate=3,0,3", "gate=3,0,2", "different numbers of channels"),
    ("gate=3,0,3", "gate=9,0,3", "channels that no map has"),
    (GATE, f"{BYTES}gate in=2,0,3 gate=4,0,3 out=1,0,3", "different data types"),
    (GATE, f"{BYTES}gate in=4,0,3 gate=4,0,3 out=4,0,3", "no such step"),
]
BN_RELU = "affine in=1,0,4 out=1,0,4 flip=0 zero=0"
LOAD_SCALE, COPY_SCALE = "load out=0,0,3 scale=0", "1,0,4 scale=0"
INVALID_INT8 = [
    (LOAD_SCALE, "load out=0,0,3 scale=4094", "beyond the blob"),
    (LOAD_SCALE, "load out=0,0,3", "beyond the blob"),
    ("weight=0", "weight=4000", "bytes beyond"),
    ("bias=0 scale=0", "bias=0 scale=4090", "beyond the blob"),
    ("bias=0", "bias=0 shift=0", "array for maps of another data type"),
    ("bias=0", "bias=0 add_scale=0", "array for maps of another data type"),
    ("out=1,0,4 blocks", "out=1,0,4 add=1,0,4 blocks", "no step before it has written"),
    ("bias=0", "bias=0 slope=0.1", "beyond the blob"),
    (
        "affine",
        f"{CONV} in=1,0,4 add=1,0,4 out=1,0,4 scale=0 add_scale=0 add_last=1\naffine",
        "beyond",
    ),
    ("bias=0", "bias=0 out_scale=0 out_shift=4090", "beyond the blob"),
    ("flip=0", "", "array for maps of another data type"),
    ("flip=0", "flip=4090", "bytes beyond"),
    ("zero=0", "zero=4090", "bytes beyond"),
    ("zero=0\npool", "\npool", "bytes beyond"),
    ("out=1,0,4 flip=0", "out=1,0,4 flip=0 scale=0", "array for maps of another data type"),
    ("affine in=1,0,4 out=1,0,4", "affine in=1,0,4 out=2,0,4", "beyond the blob"),
    (BN_RELU, f"{AFFINE} in=1,0,4 out=2,0,4 flip=0", "array for maps of another data type"),
    (BN_RELU, f"{AFFINE} in=1,0,4 out=2,0,4 slope=0", "conversion of a data type has an"),
    ("affine", f"{CONV} in=1,0,4 add=1,0,4 out=1,0,4 scale=0\naffine", "beyond the blob"),
    ("kernel=2,2", "kernel=2,2 pad=1,0", "no average with padding"),
    ("kernel=2,2", "kernel=2,129", "kernel is too large"),
    (COPY_SCALE, "1,0,4 scale=4093", "beyond the blob"),
    ("add_scale=0 out_scale=0", "out_scale=0", "beyond the blob"),
    ("add_scale=0 out_scale=0", "add_scale=0", "beyond the blob"),
    ("add=1,0,4 out=1,0,4 scale=0", "out=1,0,4 scale=0", "array for maps of another data type"),
    ("2,0,4 scale=0", "2,0,4 scale=4093", "beyond the blob"),
]


def symbol(program):
    native.load()
    inputs = [mx.sym.var(name) for name in ("data", "blob", "bytes")]
    return mx.sym.gluondense_program(*inputs, program=program)


@pytest.mark.parametrize(
    ("valid", "part", "edit", "message"),
    [
        (valid, *row)
        for valid, rows in (
            (VALID, INVALID),
            (VALID_INT8, INVALID_INT8),
            (VALID_MIXER, INVALID_MIXER),
            (VALID_NECK, INVALID_NECK),
        )
        for row in rows
    ],
)
def test_an_invalid_program_is_refused(valid, part, edit, message):
    assert part in valid
    symbol(valid)
    with pytest.raises(mx.MXNetError) as error:
        symbol(valid.replace(part, edit, 1))
    assert message in last_message(error)


def test_maps_of_other_sizes_are_refused():
    """The size of a map is known with that of the images."""
    assert symbol(VALID_NECK).infer_shape(data=(1, 4, 8, 6))[1] == [(1, 4, 8, 6)]
    shrunk = VALID_NECK.replace("up=3", "up=1")
    for program, size, message in (
        (VALID_NECK, (7, 6), "no multiple of what this network needs"),
        (shrunk, (8, 6), "cut to a larger size"),
        (VALID_NECK.replace("like=0,0,4 ", ""), (8, 6), "different sizes are added"),
    ):
        with pytest.raises(mx.MXNetError) as error:
            symbol(program).infer_shape(data=(1, 4, *size))
        assert message in last_message(error)


def test_a_gate_of_many_pixels_is_refused():
    """The size of a map is known with that of the images."""
    assert symbol(VALID_MIXER).infer_shape(data=(1, 3, 8, 8))[1] == [(1, 3, 8, 8)]
    program = VALID_MIXER.replace("gate=3,0,3", "gate=2,0,3")
    with pytest.raises(mx.MXNetError) as error:
        symbol(program).infer_shape(data=(1, 3, 8, 8))
    assert "a gate has more than one pixel" in last_message(error)


def last_message(error):
    """MXNet repeats the messages of a process's earlier errors in front of the last one."""
    return str(error.value).rsplit("mxnet_operator.h", 1)[1]


def test_more_programs_than_are_cached():
    lines = VALID.replace("blob=4096", "blob=65536").splitlines(True)
    program_text = "".join(line for line in lines if not line.startswith("pool"))
    for _ in range(2):
        for channels in range(1, 80):
            program = program_text.replace("1,0,4", f"1,0,{channels}")
            program = program.replace("map channels=4\n", f"map channels={channels}\n")
            program = program.replace("blocks=1", f"blocks={-(-channels // 4)}")
            _, shapes, _ = symbol(program).infer_shape(data=(1, 3, 8, 8))
            assert shapes == [(1, channels, 8, 8)]


def test_images_that_need_more_memory_than_there_is_are_refused():
    """The memory was asked for, and the process killed (issue 18, point 20)."""
    parts = 4000
    copies = (f"copy in=0,0,3 out=1,{3 * part},3" for part in range(parts))
    program = "\n".join(
        [
            "gluondense format=1 blob=64 bytes=64",
            "map channels=3",
            f"map channels={3 * parts}",
            "load out=0,0,3",
            *copies,
            f"store in=1,0,{3 * parts} output=0 flat=0",
        ]
    )
    assert symbol(program).infer_shape(data=(1, 3, 8, 8))[1] == [(1, 3 * parts, 8, 8)]
    with pytest.raises(mx.MXNetError) as error:
        symbol(program).infer_shape(data=(1, 3, 16384, 16384))
    assert re.search(r"needs \d+ MiB for such images, and this machine has \d+", str(error.value))


def test_too_large_images_are_refused():
    with pytest.raises(mx.MXNetError) as error:
        symbol(VALID).infer_shape(data=(1, 3, 70000, 30681))
    assert "the image is too large" in last_message(error)


def test_empty_images_are_refused():
    """A window in the padding of an empty image has no pixel, and was pooled all the same."""
    program = VALID.replace("border=1", "bytes=1").replace("channels=4", "channels=3")
    program = program.replace("load out=0,0,3", "load out=0,0,3 scale=0 shift=0")
    lines = [line for line in program.splitlines() if not line.startswith(("conv", "pool"))]
    lines.insert(-1, "pool in=0,0,3 out=2,0,3 kernel=2,2 pad=1,1 max=1")
    program = "\n".join(lines).replace("in=1,0,4", "scale=0 shift=0 in=2,0,3")
    assert symbol(program).infer_shape(data=(1, 3, 8, 8))[1] == [(1, 3, 9, 9)]
    with mx.util.np_shape(True), pytest.raises(mx.MXNetError) as error:
        symbol(program).infer_shape(data=(1, 3, 0, 8))
    assert "too small for this network" in last_message(error)


def test_networks_of_other_data_types_are_refused():
    net = build()
    net.cast("float16")
    with pytest.raises(ValueError, match=r"'native' is for float32 networks, not float16"):
        lower_to("native", trace(net), {"a": np.zeros(1, "float16")}, (1, 3, 32, 32))


def test_unknown_instruction_sets_are_refused(folder):
    with pytest.raises(pytest.skip.Exception, match="has no sse9"):
        outputs(folder[0], "sse9", 1)


@pytest.mark.parametrize(
    ("compiler", "message"),
    [
        ("no-such-compiler", "there is no C\\+\\+ compiler"),
        ("false", "cannot compile"),
        ("true", "true succeeded without compiling .* set CXX"),
    ],
)
def test_compiler_errors_name_a_remedy(tmp_path, monkeypatch, compiler, message):
    monkeypatch.setenv("CXX", compiler)
    with pytest.raises(native.CompilerError, match=message):
        native.build(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_instruction_sets_unknown_to_the_compiler_are_omitted(monkeypatch):
    """GCC 9 does not know bfloat16; an assembler may lack an instruction whose flag exists."""
    compiler = build_module.find_compiler()
    assert build_module._knows(compiler, "base", build_module.FLAGS)
    assert not build_module._knows(compiler, "base", ("-mavx512bf16-of-tomorrow",))
    monkeypatch.setitem(build_module.PROBES, "base", 'void f() { asm("unknown %zmm0"); }')
    assert not build_module._knows(compiler, "base", build_module.FLAGS)


def test_the_library_is_built_once(tmp_path):
    library = native.build()
    assert native.build() == library
    changed = library.stat().st_mtime_ns
    native.build()
    assert library.stat().st_mtime_ns == changed


def test_an_export_contains_its_library(tmp_path):
    files = gluondense.export(build(), tmp_path / "net", (1, 3, 32, 32), "native")
    assert files.library.read_bytes() == native.build().read_bytes()
    assert json.loads(files.metadata.read_text())["target"] == "native"
    nodes = json.loads(files.symbol.read_text())["nodes"]
    assert [node["op"] for node in nodes] == ["null", "null", native.OPERATOR]


@pytest.mark.slow
def test_tiles_of_large_images_are_counted_in_64_bits(tmp_path):
    """Tiles times batches were above 2^31 (issue 18, point 16). The last rows are a crop's."""
    net = seq(conv(32), conv(32, 3, padding=1), conv(1))
    net.initialize()
    x = mx.nd.random.normal(shape=(1, 3, 1372, 1372))
    net(x[:, :, :8, :8])
    gluondense.export(net, tmp_path / "net", (1, 3, 64, 64), "native")
    crop = x[:, :, -64:, -64:]
    np.savez(tmp_path / "inputs.npz", **{"net|large": x.asnumpy(), "net|crop": crop.asnumpy()})
    found = outputs(tmp_path, "avx2", 2)
    large, small = found["net|large|0"], found["net|crop|0"]
    assert large.shape == (1, 1, 1372, 1372)
    assert_close(large[:, :, -60:, -60:], small[:, :, 4:, 4:])
