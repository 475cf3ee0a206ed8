# SPDX-License-Identifier: Apache-2.0
"""Parameter initialization of the DenseNet authors' code."""

from __future__ import annotations

import math

import mxnet as mx
from mxnet.ndarray import NDArray


@mx.init.register
class HeFanOut(mx.init.Initializer):
    """He initialization with fan-out for convolutions, LeCun's uniform one for dense layers.

    Weights of a convolution with n output channels and a kw x kh kernel are drawn from
    N(0, 2 / (kw kh n)), those of a fully-connected layer with m inputs from
    U(-1 / sqrt(m), 1 / sqrt(m)). Biases are 0. This follows the DenseNet authors' Torch
    code, whereas ports to PyTorch use fan-in.

    References
    ----------
    liuzhuang13/DenseNet, ``models/densenet.lua``, ``ConvInit``; DenseNet paper, section 4.2, [10].
    """

    def _init_weight(self, name: str, arr: NDArray) -> None:
        if len(arr.shape) == 4:
            fan_out = arr.shape[0] * arr.shape[2] * arr.shape[3]
            mx.random.normal(0, math.sqrt(2 / fan_out), shape=arr.shape, out=arr)
        else:
            bound = 1 / math.sqrt(math.prod(arr.shape[1:]))
            mx.random.uniform(-bound, bound, shape=arr.shape, out=arr)
