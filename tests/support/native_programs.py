"""Networks and helpers for the tests of native exports."""

from __future__ import annotations

import os
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon
from mxnet.gluon import nn

from gluondense.graph.inference_passes import PASSES
from gluondense.graph.ir import Graph
from gluondense.graph.trace import trace
from support.exported_networks import VARIANTS, build

# Loads a folder's exports and predicts; the environment sets the threads and the instruction set.
WORKER = """
import sys
import gluondense
import mxnet as mx
import numpy as np

folder = sys.argv[1]
outputs = {}
for case, x in np.load(f"{folder}/inputs.npz").items():
    block = gluondense.load_exported(f"{folder}/{case.split('|')[0]}")
    found = block(mx.nd.array(x))
    found = found if isinstance(found, list) else [found]
    outputs.update({f"{case}|{n}": out.asnumpy() for n, out in enumerate(found)})
np.savez(f"{folder}/outputs.npz", **outputs)
"""


# Batches that are multiples of the number of threads or not; sizes that fill no tiles.
SHAPES = ((1, 32, 32), (2, 64, 48), (5, 45, 37), (4, 61, 90))


def outputs(folder, isa, threads):
    """Return the outputs of a folder's exports; skip if the processor lacks the instruction set."""
    environment = {**os.environ, "GLUONDENSE_ISA": isa, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-c", WORKER, folder]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if f"GLUONDENSE_ISA={isa} is not supported here" in done.stderr:
        pytest.skip(f"this processor has no {isa}")
    assert done.returncode == 0, done.stderr
    return dict(np.load(folder / "outputs.npz"))


def optimized(variant):
    net = build(*VARIANTS[variant])
    params = {name: value._reduce().asnumpy() for name, value in net.collect_params().items()}
    graph = Graph(trace(net), params)
    for change in PASSES.values():
        change(graph)
    return graph


class Net(gluon.HybridBlock):
    """A block with named layers and a forward function."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.forward_ = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def hybrid_forward(self, F, x):
        return self.forward_(F, self, x)


def conv(channels, kernel=1, **options):
    return nn.Conv2D(channels, kernel, **options)


def seq(*layers):
    net = nn.HybridSequential()
    net.add(*layers)
    return net


def relu(F, x):
    return F.Activation(x, act_type="relu")


def norm_relu():
    return seq(nn.BatchNorm(), nn.Activation("relu"))


def tail(F, x, begin):
    return F.slice_axis(x, axis=1, begin=begin, end=None)


def upsampled(F, x, scale=2):
    return F.UpSampling(x, scale=scale, sample_type="nearest")


# Small networks, each with a combination of layers that the zoo's networks lack.
BLOCKS = {
    "maximum and gate of two maps": lambda: Net(
        lambda F, s, x: (
            lambda y: s.c(
                F.concat(
                    F.broadcast_maximum(F.slice_axis(y, axis=1, begin=0, end=9), tail(F, y, 9)),
                    F.elemwise_mul(y, F.Activation(s.b(x), act_type="sigmoid")),
                    dim=1,
                )
            )
        )(s.a(x)),
        a=conv(18),
        b=conv(18, 3, padding=1),
        c=conv(5, 3, padding=1),
    ),
    "maps of other scales": lambda: Net(
        lambda F, s, x: (
            lambda fine, coarse: [
                s.d(F.concat(F.slice_like(upsampled(F, coarse), fine, axes=(2, 3)), fine, dim=1)),
                s.e(F.concat(coarse, s.f(F.space_to_depth(upsampled(F, fine, 4), 4)), dim=1)),
            ]
        )(s.a(x), s.c(s.b(s.a(x)))),
        a=conv(7, 3, padding=1),
        b=conv(8, 3, strides=2, padding=1),
        c=conv(6),
        d=conv(5, 3, padding=1),
        e=conv(4),
        f=conv(3, 3, strides=2, padding=1),
    ),
    "kernel of many taps": lambda: Net(
        lambda F, s, x: s.b(F.concat(s.a(x), x, dim=1)), a=conv(5), b=conv(4, 9, padding=4)
    ),
    "part of a concatenation with many taps": lambda: Net(
        lambda F, s, x: F.concat(s.b(s.a(x)), s.c(s.a(x)), dim=1),
        a=conv(8),
        b=conv(4, 9, padding=4, groups=2),
        c=conv(4),
    ),
    "stride in one direction": lambda: conv(8, 1, strides=(1, 2)),
    "filters of more than 1 MiB": lambda: seq(conv(512), conv(544, strides=2)),
    "relu of an output that is read": lambda: Net(
        lambda F, s, x: [relu(F, s.a(x) + s.b(x)), s.a(x)], a=conv(8), b=conv(8, 3, padding=1)
    ),
    "sum read twice": lambda: Net(
        lambda F, s, x: (lambda y: F.concat(relu(F, y), y, dim=1))(s.a(x) + s.b(x)),
        a=conv(8),
        b=conv(8, 3, padding=1),
    ),
    "pooled pixel with a border": lambda: seq(
        conv(8, 3), nn.GlobalAvgPool2D(), conv(4, 3, padding=1)
    ),
    "normalization, then 1x1 with a border": lambda: seq(
        conv(8, 3), nn.MaxPool2D(), norm_relu(), conv(4, 1, padding=1)
    ),
    "last channels": lambda: Net(
        lambda F, s, x: F.slice_axis(s.a(x), axis=1, begin=-3, end=None), a=conv(8)
    ),
    "concatenation behind the last channels": lambda: Net(
        lambda F, s, x: (
            lambda y: [
                s.d(F.concat(tail(F, y, 3), s.b(tail(F, y, 3)), s.c(x), dim=1)),
                s.e(y),
            ]
        )(s.a(x)),
        a=conv(8),
        b=conv(4),
        c=conv(2),
        d=conv(5, 3, padding=1),
        e=conv(3),
    ),
    "two concatenations behind the same channels": lambda: Net(
        lambda F, s, x: (
            lambda y: [
                s.c(F.concat(tail(F, y, 3), s.a(x), dim=1)),
                s.d(F.concat(tail(F, y, 3), y, dim=1)),
            ]
        )(F.concat(s.a(x), s.b(x), dim=1)),
        a=conv(4),
        b=conv(4),
        c=conv(5),
        d=conv(5),
    ),
    "concatenation behind channels of the middle": lambda: Net(
        lambda F, s, x: F.concat(
            F.slice_axis(s.a(x), axis=1, begin=2, end=6), s.b(x), tail(F, x, 1), dim=1
        ),
        a=conv(8),
        b=conv(4),
    ),
    "normalization of pooled numbers": lambda: seq(
        conv(8, 3, padding=1), nn.GlobalAvgPool2D(), nn.BatchNorm(), nn.Dense(4)
    ),
    "maximum in front of a border": lambda: seq(conv(8, 3), nn.MaxPool2D(), conv(8, 3, padding=1)),
    "leaky maximum in front of a border": lambda: seq(
        conv(8, 3),
        nn.LeakyReLU(0.1),
        nn.MaxPool2D(),
        conv(8, 3, padding=1),
    ),
    "copied into a border": lambda: Net(
        lambda F, s, x: (lambda a, b: [s.c(F.concat(b, a, dim=1)), s.d(F.concat(a, b, dim=1))])(
            s.a(x), s.b(s.a(x))
        ),
        a=conv(8),
        b=conv(8),
        c=conv(4, 3, padding=1),
        d=conv(4),
    ),
    "normalization without relu": lambda: seq(
        conv(8, 3), nn.MaxPool2D(), nn.BatchNorm(), conv(8, 3, padding=1)
    ),
    "mean over part of the border": lambda: seq(
        conv(8), nn.MaxPool2D(3, 2, 1), nn.AvgPool2D(2), conv(3)
    ),
    # Averages that steps over bytes lack.
    "mean with a border": lambda: seq(conv(8), nn.AvgPool2D(3, 2, 1), conv(3)),
    "mean of many pixels": lambda: seq(conv(8, 3, padding=1), nn.AvgPool2D(17), conv(3)),
    "sum of two normalizations": lambda: Net(
        lambda F, s, x: s.c(relu(F, s.a(x) + s.b(x))),
        a=seq(conv(8), nn.MaxPool2D(), nn.BatchNorm()),
        b=seq(conv(8), nn.AvgPool2D(), nn.BatchNorm()),
        c=conv(5, 3, padding=1),
    ),
}


def block(name, shape=(4, 3, 17, 80)):
    """Return a network of BLOCKS with random parameters, and images."""
    net = BLOCKS[name]()
    net.initialize()
    random = np.random.default_rng(0)
    x = mx.nd.array(random.standard_normal(shape))
    net(x)
    mx.nd.waitall()
    for key, parameter in net.collect_params().items():
        value = random.uniform(-0.5, 0.5, parameter.shape)
        if key.endswith(("gamma", "var")):
            value = 1 + value
        elif key.endswith("bias"):
            value = 1 + value / 2  # so that 0 lies beyond what most channels hold
        parameter.set_data(mx.nd.array(value))
    return net, x
