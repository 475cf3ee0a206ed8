# SPDX-License-Identifier: Apache-2.0
"""The pooling after the last stage: of feature maps, or of logits."""

from __future__ import annotations

from typing import Any

from mxnet.gluon import nn

from .base import Tensor

POOLS = ("avg", "mean_max")

# Side of the last feature map at the training size 224, and of the window of DPN's test-time head.
POOL_WINDOW = 7


def mean_max_logits(F: Any, x: Tensor, output: nn.HybridBlock) -> Tensor:
    """Return the mean of the average and the maximum of the logits over all positions.

    This is DPN's head for testing at larger sizes. The classifier, trained after a 7x7 pooling, is
    applied to each 7x7 window like a convolution. At the training size there is one window, and the
    logits are those of global average pooling.

    Parameters
    ----------
    x
        ``(N, C, H, W)``, already pooled by a 7x7 window of stride 1.
    output
        The classifier, ``(M, C)`` to ``(M, classes)``.

    References
    ----------
    cypw/DPNs, ``score.py``; timm's ``test_time_pool``.
    """
    windows = F.transpose(x, axes=(0, 2, 3, 1))
    logits = output(F.reshape(windows, shape=(-1, 0), reverse=True))
    logits = F.reshape_like(logits, windows, lhs_begin=0, lhs_end=1, rhs_begin=0, rhs_end=3)
    logits = F.transpose(logits, axes=(0, 3, 1, 2))
    mean = F.Pooling(logits, global_pool=True, pool_type="avg", kernel=(1, 1))
    top = F.Pooling(logits, global_pool=True, pool_type="max", kernel=(1, 1))
    return F.flatten((mean + top) * 0.5)
