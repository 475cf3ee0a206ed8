# SPDX-License-Identifier: Apache-2.0
"""Outputs of a block for batches of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import mxnet as mx
import numpy as np


def outputs_of(net: Callable, x: mx.nd.NDArray) -> list[np.ndarray]:
    """Return all outputs of a block in inference mode."""
    with mx.autograd.pause(train_mode=False):
        outputs = net(x)
    return [out.asnumpy() for out in (outputs if isinstance(outputs, (list, tuple)) else [outputs])]


def all_outputs(
    net: Callable,
    batches: Iterable[np.ndarray],
    ctx: mx.Context | None = None,
    dtype: Any = "float32",
    count: int | None = None,
) -> list[np.ndarray]:
    """Return the outputs for all batches, concatenated along the batch axis.

    The inputs get a device, the CPU by default, and a dtype. With ``count``, the last batch is the
    one that contains the image of this number.
    """
    parts: list[list[np.ndarray]] = []
    seen = 0
    for batch in batches:
        parts.append(outputs_of(net, mx.nd.array(batch, ctx=ctx or mx.cpu(), dtype=dtype)))
        seen += len(batch)
        if count is not None and seen >= count:
            break
    return [np.concatenate(arrays) for arrays in zip(*parts)]
