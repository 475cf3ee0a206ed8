"""Operators of each kind on a GPU."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest

pytestmark = pytest.mark.gpu


def test_arrays_cross_devices(gpu, two_gpus):
    host = np.arange(12, dtype=np.float32).reshape(3, 4)
    first, second = (mx.nd.array(host, ctx=device) for device in two_gpus)
    assert np.array_equal((first.as_in_context(second.context) + second).asnumpy(), 2 * host)
    assert (first.as_in_context(gpu) * 2).context == gpu
