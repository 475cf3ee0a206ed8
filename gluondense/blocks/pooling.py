# SPDX-License-Identifier: Apache-2.0
"""Anti-aliased pooling (Zhang, "Making Convolutional Networks Shift-Invariant Again", 2019)."""

from __future__ import annotations

from mxnet.gluon import nn

from .base import Chain


class MaxBlurPool(Chain):
    """3x3 max-pooling of stride 1, a 3x3 blur with the binomial filter, and subsampling by 2.

    The blur and the subsampling are two average poolings, because [1 2 1] / 4 is [1 1] / 2 applied
    twice: a 2x2 window of stride 1 without padding, then one of stride 2 that ignores its padding.
    The latter repeats the former's edge, which is the edge that reflecting the input gives. So the
    result is timm's ``BlurPool2d``, without constant filters and without a padding operator.

    Inputs / Outputs
        ``(N, C, H, W)`` with H and W of at least 2, to ``(N, C, ceil(H / 2), ceil(W / 2))``.

    References
    ----------
    Zhang, section 3.2, "MaxPool -> MaxBlurPool"; timm, ``layers/blur_pool.py``.
    """

    def __init__(self, prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)
        with self.name_scope():
            self.add(
                nn.MaxPool2D(3, 1, padding=1, prefix="max_"),
                nn.AvgPool2D(2, 1, prefix="blur1_"),
                nn.AvgPool2D(2, 2, padding=1, count_include_pad=False, prefix="blur2_"),
            )
