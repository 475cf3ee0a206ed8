"""The operator ``gluondense_residual_stage`` itself: what it refuses.

``test_backend.py`` compares its results with MXNet's.
"""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluondense import native
from gluondense.graph.residual_stages import RESIDUAL_STAGE

pytestmark = pytest.mark.usefixtures("native_operator")

STAGE = {
    "stride": 2,
    "expanded": 16,
    "bypass": 8,
    "blocks": 1,
    "bottleneck": 8,
    "groups": 2,
    "out_channels": 12,
    "recompute": 0,
    "slope": "0.01",
    "eps": "1e-5",
    "momentum": "0.9",
    "dtype": "float32",
}
INPUTS = 1 + 5 * 7  # `down`, the expansion, the three units of a block and two transitions


@pytest.fixture(autouse=True)
def loaded(native_operator):
    native.load(RESIDUAL_STAGE)


def infer_shape(data=(2, 6, 9, 7), **attributes):
    names = [f"x{i}" for i in range(INPUTS)]
    stage = getattr(mx.sym, RESIDUAL_STAGE)(*map(mx.sym.var, names), **{**STAGE, **attributes})
    return stage.infer_shape(**{**dict.fromkeys(names, (1,)), names[0]: data})


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"groups": 3}, "bottleneck must be a multiple of groups"),
        ({"groups": 0}, "groups and the numbers of channels must be positive"),
        ({"bypass": 0}, "groups and the numbers of channels must be positive"),
        ({"bypass": 16}, "bypass must be less than expanded"),
        ({"stride": 3}, "stride must be an integer from 0 to 2, not 3"),
        ({"blocks": "many"}, "blocks must be an integer from 0 to 4096, not many"),
        ({"slope": "1.5"}, "slope must be from 0 to 1, not 1.5"),
        ({"slope": "nan"}, "slope must be from 0 to 1, not nan"),
        ({"dtype": "float16"}, "dtype must be float32 or bfloat16, not float16"),
        ({"data": (2, 5, 9, 7)}, "the input's channels must be a multiple of groups"),
        ({"data": (2, 5, 9)}, r"the input must be (N, C, H, W), not of 3 dimensions"),
        ({"data": (1, 2**15, 1, 1)}, "the input must have at most 16384 channels, not 32768"),
    ],
    ids=str,
)
def test_wrong_attributes_are_refused(attributes, message, capfd):
    with pytest.raises(mx.base.MXNetError) as raised:
        infer_shape(**attributes)
    assert message in str(raised.value) + "".join(capfd.readouterr())


def test_two_operators_keep_their_own_maps():
    """Another forward pass before backward changes no gradient."""
    filters = [(6, 3, 3), (16, 6, 1), (8, 8, 1), (8, 4, 3), (8, 8, 1), (8, 8, 1), (12, 16, 1)]
    shapes = [(2, 6, 9, 7)]
    for channels, inputs, kernel in filters:
        shapes += [(channels, inputs, kernel, kernel), *[(channels,)] * 4]
    first, second = ([mx.nd.random.uniform(0.1, 1, shape) for shape in shapes] for _ in range(2))
    gradients = []
    for others in ([], [second]):
        first[0].attach_grad()
        with autograd.record():
            outputs = [getattr(mx.nd, RESIDUAL_STAGE)(*x, **STAGE) for x in [first, *others]]
        outputs[0].backward()
        gradients.append(first[0].grad.asnumpy())
    assert np.abs(gradients[0]).max() > 0
    np.testing.assert_array_equal(*gradients)
