"""The operator ``gluondense_dual_path_stage`` itself: what it refuses.

``test_backend.py`` compares its results with MXNet's.
"""

from __future__ import annotations

import mxnet as mx
import pytest

from gluondense import native
from gluondense.graph.dual_path_stages import DUAL_PATH_STAGE

pytestmark = pytest.mark.usefixtures("native_operator")

STAGE = {
    "blocks": 1,
    "stride": 2,
    "bottleneck": 8,
    "groups": 2,
    "residual": 6,
    "increment": 3,
    "recompute": 0,
    "eps": "1e-3",
    "momentum": "0.9",
    "dtype": "float32",
}
INPUTS = 1 + 5 * 4  # the projection and the three units of a block


@pytest.fixture(autouse=True)
def loaded(native_operator):
    native.load(DUAL_PATH_STAGE)


def infer_shape(data=(2, 5, 9, 7), **attributes):
    names = [f"x{i}" for i in range(INPUTS)]
    stage = getattr(mx.sym, DUAL_PATH_STAGE)(*map(mx.sym.var, names), **{**STAGE, **attributes})
    stage.infer_shape(**{**dict.fromkeys(names, (1,)), names[0]: data})


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"groups": 3}, "bottleneck must be a multiple of groups"),
        ({"groups": 0}, "groups and the numbers of channels must be positive"),
        ({"increment": 0}, "groups and the numbers of channels must be positive"),
        ({"stride": 3}, "stride must be an integer from 0 to 2, not 3"),
        ({"blocks": "many"}, "blocks must be an integer from 0 to 4096, not many"),
        ({"dtype": "float16"}, "dtype must be float32 or bfloat16, not float16"),
        ({"data": (2, 5, 9)}, r"the input must be (N, C, H, W), not of 3 dimensions"),
        ({"data": (1, 2**15, 1, 1)}, "the input must have at most 16384 channels, not 32768"),
    ],
    ids=str,
)
def test_wrong_attributes_are_refused(attributes, message, capfd):
    with pytest.raises(mx.base.MXNetError) as raised:
        infer_shape(**attributes)
    assert message in str(raised.value) + "".join(capfd.readouterr())
