"""The native operator in bfloat16: what convolutions multiply and what maps store is rounded."""

from __future__ import annotations

import os
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn
from support.exported_networks import FLOAT_TARGETS, VARIANTS, as_list, assert_close, build
from support.native_programs import SHAPES, conv, norm_relu, outputs, seq

import gluondense
from gluondense import native
from gluondense.deploy.targets import TARGETS
from gluondense.graph.inference_passes import optimize
from gluondense.graph.ir import Graph
from gluondense.graph.trace import trace
from gluondense.native.program.lower import Lowering

pytestmark = pytest.mark.usefixtures("native_operator")

NETS = ("densenet", "csp-last", "dpn", "residual", "rdnet")


@pytest.fixture(scope="module")
def has_instruction(native_operator):
    """Whether this processor and the compiled library support avx512bf16."""
    code = "import gluondense, mxnet as mx; from gluondense import native; native.load()"
    code += "; mx.nd.gluondense_program(mx.nd.ones((1, 1, 1, 1)), mx.nd.ones(1), program=PROGRAM)"
    program = "gluondense format=1 blob=1\nmap channels=1\nload out=0,0,1\nstore in=0,0,1 output=0"
    code = code.replace("PROGRAM", repr(program)) + ".asnumpy()"
    environment = {**os.environ, "GLUONDENSE_ISA": "avx512bf16"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    missing = "is not supported here" in done.stderr
    assert missing or done.returncode == 0, done.stderr
    return not missing


def rounded(x):
    """Round to bfloat16, ties to even."""
    bits = np.asarray(x, "float32").view("uint32").astype("uint64")
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16
    return bits.astype("uint32").view("float32").astype("float64")


def product(x, layer, norm=None, stride=1):
    """Return a 1x1 convolution of rounded inputs and weights, optionally after BN and ReLU."""
    if norm is not None:
        value = {key.rsplit("_", 1)[1]: p.data().asnumpy() for key, p in norm.params.items()}
        scale = value["gamma"] / np.sqrt(value["var"] + 1e-5)
        shift = value["beta"] - value["mean"] * scale
        x = np.maximum(x * scale[:, None, None] + shift[:, None, None], 0)
    weight = rounded(layer.weight.data().asnumpy()[:, :, 0, 0])
    y = np.einsum("oc,nchw->nohw", weight, rounded(x[:, :, ::stride, ::stride]))
    return y + layer.bias.data().asnumpy()[:, None, None]


def export(net, path, shape=(1, 3, 17, 17)):
    gluondense.export(net, path, shape, "native_bf16")
    return gluondense.load_exported(path)


@pytest.mark.parametrize("channels", [1, 2, 15, 16, 17, 31, 33, 64, 130])
@pytest.mark.parametrize("filters", [1, 16, 17, 32, 50])
def test_1x1_convolutions_multiply_rounded_numbers(channels, filters, tmp_path, has_instruction):
    if not has_instruction:
        pytest.skip("this processor has no avx512bf16")
    net, random = conv(filters, in_channels=channels), np.random.default_rng(0)
    net.initialize(mx.init.Normal(1))
    net.bias.set_data(mx.nd.array(random.standard_normal(filters)))
    x = random.standard_normal((2, channels, 5, 7)).astype("float32")
    found = export(net, tmp_path / "net", (1, channels, 4, 4))(mx.nd.array(x)).asnumpy()
    assert_close(found, product(x, net))


def convolution(x, layer):
    """Return a convolution of rounded inputs and weights, whose sums are not rounded."""
    weight, bias = (mx.nd.array(p.data().asnumpy()) for p in (layer.weight, layer.bias))
    options = {**layer._kwargs, "num_filter": len(bias)}
    return mx.nd.Convolution(
        mx.nd.array(rounded(x)), mx.nd.array(rounded(weight.asnumpy())), bias, **options
    ).asnumpy()


def assert_close_after_rounding(found, expected):
    """Compare what is equal but for a few roundings, which depend on the order of summation."""
    np.testing.assert_allclose(found, expected, atol=0.01 * np.abs(expected).max())
    assert np.median(np.abs(found - expected)) < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("stride", [1, 2])
def test_rounding_is_after_normalization_and_relu(stride, tmp_path, has_instruction):
    if not has_instruction:
        pytest.skip("this processor has no avx512bf16")
    first = (conv(6, 3), nn.AvgPool2D(2, 1), nn.BatchNorm(), nn.Activation("relu"))
    net = seq(*first, conv(9, strides=stride))
    net.initialize()
    random = np.random.default_rng(0)
    x = random.standard_normal((2, 3, 9, 11)).astype("float32")
    net(mx.nd.array(x)).wait_to_read()
    for parameter in net.collect_params().values():
        parameter.set_data(mx.nd.array(random.uniform(0.5, 1.5, parameter.shape)))
    found = export(net, tmp_path / "net")(mx.nd.array(x)).asnumpy()
    pooled = net[1](mx.nd.array(rounded(convolution(x, net[0])))).asnumpy()
    expected = product(rounded(pooled), net[4], net[2], stride)
    assert_close_after_rounding(found, expected)


# Of images with 3 channels, which are packed, and of maps in bfloat16, which are not; tiles that
# fill no row; panels of several groups, of one group, and of a part of one. None is a Winograd
# convolution, whose products are in float32.
CONVOLUTIONS = {
    "3x3": {"channels": 20, "kernel": 3, "padding": 1},
    "strided": {"channels": 40, "kernel": 3, "strides": 2, "padding": 1},
    "7x7": {"channels": 7, "kernel": 7, "strides": 2, "padding": 3},
    "1x3": {"channels": 6, "kernel": (1, 3), "padding": (0, 1)},
    "padded 1x1": {"channels": 6, "kernel": 1, "padding": 1},
    "few channels a group": {"channels": 48, "kernel": 3, "padding": 1, "groups": 12},
    "few channels a group, odd": {"channels": 48, "kernel": 3, "padding": 1, "groups": 16},
    "few channels a group, strided": {"channels": 48, "kernel": 3, "strides": 2, "groups": 12},
    "groups of 16": {"channels": 48, "kernel": 3, "padding": 1, "groups": 3},
    "groups of 48": {"channels": 96, "kernel": 3, "strides": 2, "groups": 2, "in_channels": 96},
    "1x1 in groups": {"channels": 96, "kernel": 1, "groups": 2},
}


# A tile spans several rows of narrow images.
@pytest.mark.parametrize("width", [18, 7])
@pytest.mark.parametrize(("isa", "threads"), [("avx512bf16", 1), ("avx512bf16", 3), ("amx", 2)])
def test_convolutions_multiply_rounded_numbers(isa, threads, width, tmp_path, native_operator):
    random, inputs, expected = np.random.default_rng(0), {}, {}
    for name, options in CONVOLUTIONS.items():
        if "odd" in name and isa != "amx":  # has no pairs of channels: others compute in float32
            continue
        options = dict(options)
        inner = options.pop("in_channels", 48)
        net = seq(conv(inner), nn.LeakyReLU(0.5), conv(**options))
        if "groups" not in options:  # directly from the image, too
            net = seq(conv(inner, 3), nn.LeakyReLU(0.5), conv(**options))
        if "few channels" in name:  # between maps of one type, which outputs would not be
            net.add(nn.GlobalAvgPool2D())
        net.initialize(mx.init.Normal(0.5))
        x = random.standard_normal((2, 3, 11, width)).astype("float32")
        net(mx.nd.array(x))
        gluondense.export(net, tmp_path / name, (1, 3, 11, width), "native_bf16")
        inputs[name] = x
        first = convolution(x, net[0])
        expected[f"{name}|0"] = convolution(np.where(first < 0, 0.5 * first, first), net[2])
        if "few channels" in name:
            expected[f"{name}|0"] = rounded(expected[f"{name}|0"]).mean((2, 3), keepdims=True)
    np.savez(tmp_path / "inputs.npz", **inputs)
    found = outputs(tmp_path, isa, threads)
    for name, wanted in expected.items():
        assert_close_after_rounding(found[name], wanted)


def test_outputs_are_not_rounded(tmp_path, has_instruction):
    if not has_instruction:
        pytest.skip("this processor has no avx512bf16")
    net = seq(conv(8, 3, padding=1), conv(6, 3))
    net.initialize()
    x = mx.nd.random.normal(shape=(1, 3, 17, 17))
    net(x).wait_to_read()
    found = export(net, tmp_path / "net")(x).asnumpy()
    assert (rounded(found) != found).mean() > 0.9


def run_program(net, shape, x, bf16):
    """Run the program of a network, with another value of ``bf16``."""
    params = {name: p.data().asnumpy() for name, p in net.collect_params().items()}
    program, floats = Lowering(optimize(Graph(trace(net), params)), bf16=True).lower()
    assert " bf16=2" in program
    program = program.replace(" bf16=2", bf16)
    return mx.nd.gluondense_program(x, mx.nd.array(floats), program=program).asnumpy()


def test_programs_of_earlier_versions_round_1x1_convolutions_only(native_operator):
    native.load()
    x = mx.nd.random.normal(shape=(2, 3, 17, 20))
    net = seq(conv(8, 3, padding=1), conv(6, 3, groups=2), nn.MaxPool2D(2), conv(4, 3))
    net.initialize()
    net(x).wait_to_read()
    plain = run_program(net, x.shape, x, "")
    np.testing.assert_array_equal(run_program(net, x.shape, x, " bf16=1"), plain)
    with pytest.raises(mx.MXNetError, match="no such use of bfloat16; update the library"):
        run_program(net, x.shape, x, " bf16=3")


def test_nan_propagates(tmp_path):
    net = seq(conv(4, 3, padding=1), nn.AvgPool2D(2, 1), norm_relu(), conv(4))
    net.initialize()
    x = mx.nd.ones((1, 3, 9, 9))
    net(x).wait_to_read()
    found = export(net, tmp_path / "net", x.shape)
    x[0, 1, 4, 3] = np.nan
    assert np.isnan(found(x).asnumpy()[0, 0]).sum() == 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory, native_operator):
    """Exports of small networks in bfloat16 and float32, inputs, and the networks' outputs."""
    folder = tmp_path_factory.mktemp("bf16")
    random, inputs, expected = np.random.default_rng(0), {}, {}
    for variant in NETS:
        net = build(*VARIANTS[variant])
        for target in ("native", "native_bf16"):
            gluondense.export(net, folder / f"{variant}-{target}", (1, 3, 32, 32), target)
        for shape in SHAPES:
            x = random.standard_normal((shape[0], 3, *shape[1:])).astype("float32")
            for target in ("native", "native_bf16"):
                inputs[f"{variant}-{target}|{shape}"] = x
            for n, output in enumerate(as_list(net(mx.nd.array(x)))):
                expected[f"{variant}-native_bf16|{shape}|{n}"] = output
    np.savez(folder / "inputs.npz", **inputs)
    return folder, expected


@pytest.mark.parametrize("threads", [1, 2])
def test_outputs_are_near_the_network(folder, threads, has_instruction):
    folder, expected = folder
    found = outputs(folder, "", threads)
    for case, wanted in expected.items():
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(found[case], wanted, atol=0.02 * scale)
        exact = np.array_equal(found[case], found[case.replace("native_bf16", "native")])
        assert exact != has_instruction, case


@pytest.mark.parametrize("isa", ["base", "avx2", "avx512", "avx512vnni"])
def test_other_instruction_sets_compute_in_float32(folder, isa):
    folder, expected = folder
    found = outputs(folder, isa, 2)
    for case in expected:
        floats = case.replace("native_bf16", "native")
        np.testing.assert_array_equal(found[case], found[floats], err_msg=case)


def test_the_target_has_a_wider_tolerance():
    assert "native_bf16" not in FLOAT_TARGETS
    assert TARGETS["native_bf16"].tolerance == 0.05
    assert not TARGETS["native_bf16"].needs_calibration
