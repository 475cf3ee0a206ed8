"""3x3 convolutions with groups of few channels, compared with float64 NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from mxnet import gluon
from mxnet.gluon import nn
from support.exported_networks import assert_close
from support.native_programs import outputs
from support.reference import conv, images, randomize, relu

import gluondense

# Input and output channels, groups and stride. The last three have panels whose groups read more
# than a vector, have another number of outputs than inputs, or do not fill a vector.
CASES = [
    (each * groups, each * groups, groups, stride)
    for each, groups in ((1, 21), (3, 32), (4, 8), (6, 32), (8, 4), (12, 3), (16, 2), (24, 2))
    for stride in (1, 2)
] + [(48, 24, 12, 1), (24, 48, 12, 1), (15, 15, 5, 2)]


class Layers(gluon.HybridBlock):
    """A 1x1 and a 3x3 convolution for each case, with a residual where the shapes allow it."""

    def __init__(self):
        super().__init__()
        for n, (depth, width, groups, stride) in enumerate(CASES):
            setattr(self, f"first{n}", nn.Conv2D(depth, 1, in_channels=3))
            options = {"groups": groups, "strides": stride, "padding": 1, "in_channels": depth}
            setattr(self, f"second{n}", nn.Conv2D(width, 3, **options))

    def hybrid_forward(self, F, x):
        found = []
        for n, case in enumerate(CASES):
            y = getattr(self, f"first{n}")(x)
            z = getattr(self, f"second{n}")(y)
            found.append(F.Activation(z + y if adds(case) else z, act_type="relu"))
        return found


def adds(case):
    depth, width, _, stride = case
    return depth == width and stride == 1


def expected(net, x):
    for n, case in enumerate(CASES):
        _, _, groups, stride = case
        weights = [
            [value.data().asnumpy().astype("float64") for value in layer.collect_params().values()]
            for layer in (getattr(net, f"first{n}"), getattr(net, f"second{n}"))
        ]
        y = conv(x, *weights[0])
        z = conv(y, *weights[1], stride=stride, groups=groups)
        yield relu(z + y if adds(case) else z)


@pytest.fixture(scope="module")
def exported(tmp_path_factory, native_operator):
    folder = tmp_path_factory.mktemp("grouped")
    net = randomize(Layers())
    x = images(3, 3, 13, 31)
    gluondense.export(net, folder / "net", x.shape, "native")
    np.savez(folder / "inputs.npz", net=x.astype("float32"))
    return folder, list(expected(net, x))


@pytest.mark.parametrize(
    ("isa", "threads"), [("base", 1), ("avx2", 3), ("avx512", 2), ("avx512vnni", 2), ("amx", 2)]
)
def test_outputs_are_those_of_float64(exported, isa, threads):
    folder, wanted = exported
    found = outputs(folder, isa, threads)
    assert len(found) == len(wanted)
    for n, array in enumerate(wanted):
        assert_close(found[f"net|{n}"], array)
