"""The steps of RDNet: depthwise convolutions, layer normalization, GELU and gates."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn
from support.exported_networks import VARIANTS, as_list, assert_close, build
from support.native_programs import Net, conv, optimized, outputs, relu, seq
from support.reference import randomize

import gluondense
from gluondense.blocks.attention import EffectiveSqueezeExcite
from gluondense.blocks.mixer import FeatureMixer, LayerScale, MixingBlock
from gluondense.blocks.norm import ChannelNorm
from gluondense.native.program import lower

pytestmark = pytest.mark.usefixtures("native_operator")


def depthwise(channels, kernel, **options):
    return conv(channels, kernel, groups=channels, in_channels=channels, **options)


# Small networks with combinations of layers that RDNet lacks, and channels that fill no vector.
BLOCKS = {
    "depthwise 7x7": lambda: seq(conv(40), depthwise(40, 7, padding=3)),
    "depthwise with strides and two sizes": lambda: seq(
        conv(17), depthwise(17, (5, 2), strides=(2, 3), padding=(2, 1), use_bias=False)
    ),
    "residual behind the activation of a depthwise convolution": lambda: Net(
        lambda F, s, x: (lambda y: y + F.LeakyReLU(s.b(y), slope=0.1))(s.a(x)),
        a=conv(23),
        b=depthwise(23, 3, padding=1),
    ),
    "activation of a sum with a depthwise convolution": lambda: Net(
        lambda F, s, x: (lambda y: relu(F, y + s.b(y)))(s.a(x)),
        a=conv(8),
        b=depthwise(8, 3, padding=1),
    ),
    "depthwise GELU": lambda: seq(conv(9), depthwise(9, 3), nn.GELU()),
    "GELU of a 3x3 convolution": lambda: seq(conv(40, 3, padding=1), nn.GELU(), conv(5)),
    "GELU of groups": lambda: seq(conv(32), conv(32, 3, groups=8), nn.GELU()),
    "GELU of a sum, and a sum with it": lambda: Net(
        lambda F, s, x: (lambda y: y + F.LeakyReLU(s.b(x) + y, act_type="gelu"))(s.a(x)),
        a=conv(7),
        b=conv(7),
    ),
    "GELU of an output that is read": lambda: Net(
        lambda F, s, x: (lambda y: [F.LeakyReLU(y, act_type="gelu"), y])(s.a(x)), a=conv(19)
    ),
    "ReLU of a GELU": lambda: seq(conv(8), nn.GELU(), nn.Activation("relu")),
    "normalization in front of a strided 1x1": lambda: seq(
        conv(21), ChannelNorm(21), conv(6, 1, strides=2)
    ),
    "normalization in front of a 1x1 with a border": lambda: seq(
        conv(21), ChannelNorm(21), conv(6, 1, padding=1)
    ),
    "normalization in front of groups": lambda: seq(conv(8), ChannelNorm(8), conv(6, groups=2)),
    "normalization that is read twice": lambda: Net(
        lambda F, s, x: (lambda y: [s.c(y), s.d(y)])(s.b(s.a(x))),
        a=conv(33),
        b=ChannelNorm(33),
        c=conv(4),
        d=conv(5, 3, padding=1),
    ),
    "normalization of a pixel": lambda: seq(
        conv(8), nn.GlobalAvgPool2D(), ChannelNorm(8), nn.Flatten(), nn.Dense(4)
    ),
    "gate": lambda: seq(conv(24, 3), EffectiveSqueezeExcite(24), conv(4)),
    "scales": lambda: seq(conv(6), nn.MaxPool2D(), EffectiveSqueezeExcite(6), LayerScale(6)),
    "gated mixers": lambda: seq(
        conv(16), FeatureMixer(16, 8, squeeze_excite=True), FeatureMixer(24, 8)
    ),
    "transitions": lambda: seq(
        conv(16), MixingBlock(16, 8, [0, 0], strides=2, eps=1e-6), MixingBlock(24, 8, [0], eps=1e-6)
    ),
}


def values(net, x):
    """Give a network random parameters."""
    net.initialize()
    net(x)
    mx.nd.waitall()
    return randomize(net)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder, inputs, expected = tmp_path_factory.mktemp("mixer"), {}, {}
    x = np.random.default_rng(0).standard_normal((3, 3, 17, 29)).astype("float32")
    for n, make in enumerate(BLOCKS.values()):
        net = values(make(), mx.nd.array(x))
        gluondense.export(net, folder / f"{n}", (1, 3, 17, 17), "native")
        inputs[f"{n}|"] = x
        expected[n] = as_list(net(mx.nd.array(x)))
    np.savez(folder / "inputs.npz", **inputs)
    return folder, expected


@pytest.mark.parametrize(
    ("isa", "threads"), [("base", 1), ("avx2", 3), ("avx512", 2), ("avx512bf16", 1), ("amx", 2)]
)
def test_networks_with_unusual_layers(exported, isa, threads):
    folder, expected = exported
    found = outputs(folder, isa, threads)
    for n, name in enumerate(BLOCKS):
        for index, wanted in enumerate(expected[n]):
            error = np.abs(found[f"{n}||{index}"] - wanted).max() / np.abs(wanted).max()
            assert error < 1e-5, name


def steps(variant):
    text, _ = lower.Lowering(optimized(variant)).lower()
    return [line for line in text.splitlines() if not line.startswith(("gluon", "map"))]


def test_a_mixer_is_three_steps_without_copies():
    """A normalization belongs to the 1x1 convolution behind it, a GELU to that in front of it."""
    lines = steps("rdnet")
    kinds = [line.split()[0] for line in lines]
    mixers, gated = 6, 4  # three blocks of two mixers; the second stage has gates
    assert kinds.count("depthwise") == mixers
    assert sum("gelu=1" in line for line in lines) == mixers
    # Those of the stem, of the transition of stride 2, and of the pooled features.
    assert kinds.count("layer_norm") == 3
    assert sum("eps=" in line for line in lines if line.startswith("conv")) == mixers + 1
    assert kinds.count("gate") == gated
    assert [line for line in lines if line.startswith("copy")] == [
        line for line in lines if "hard_sigmoid=1" in line
    ]


@pytest.mark.parametrize("variant", ["rdnet", "rdnet-features"])
def test_int8_is_refused(variant, tmp_path):
    net = build(*VARIANTS[variant])
    images = mx.nd.zeros((1, 3, 32, 32))
    message = r"target='native_int8' has no step for layer_norm \(node .*: use target='native', or"
    with pytest.raises(ValueError, match=message):
        gluondense.export(
            net,
            tmp_path / "net",
            images.shape,
            "native_int8",
            calibration=gluondense.deploy.Calibration(images),
        )
    assert list(tmp_path.iterdir()) == []


def test_products_of_two_maps_are_refused(tmp_path):
    net = Net(lambda F, s, x: F.broadcast_mul(s.a(x), s.b(x)), a=conv(4), b=conv(4))
    net.initialize()
    with pytest.raises(ValueError, match=r"no step for broadcast_mul\(of two maps\)"):
        gluondense.export(net, tmp_path / "net", (1, 3, 8, 8), "native")


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_rdnet_tiny_is_the_network(tmp_path, threads):
    net, random, cases = build("rdnet_tiny", {}), np.random.default_rng(0), {}
    gluondense.export(net, tmp_path / "net", (1, 3, 224, 224), "native")
    for shape in ((1, 3, 224, 224), (3, 3, 193, 161)):
        cases[f"net|{shape}"] = random.standard_normal(shape).astype("float32")
    np.savez(tmp_path / "inputs.npz", **cases)
    found = outputs(tmp_path, "", threads)
    for case, x in cases.items():
        wanted = net(mx.nd.array(x)).asnumpy()
        assert_close(found[f"{case}|0"], wanted)
        assert np.abs(found[f"{case}|0"] - wanted).max() < 1e-5 * np.abs(wanted).max()
