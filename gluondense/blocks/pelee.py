# SPDX-License-Identifier: Apache-2.0
"""Blocks of PeleeNet (Wang et al., "Pelee: A Real-Time Object Detection System on Mobile Devices").

Their units are Conv-BN-ReLU, unlike DenseNet's ("Composite Function", section 2.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mxnet.gluon import nn

from .attention import SqueezeExcite
from .base import Chain, ConvNormAct, Tensor, concat
from .dropout import drop_path_layer


class TwoWayPool(nn.HybridBlock):
    """PeleeNet's stem behind its first convolution: subsamples by 2 in two ways and fuses them.

    [MaxPool2x2, Conv1x1(C / 2)-Conv3x3 / 2(C)] is reduced to C channels by a 1x1 convolution. The
    pooling rounds up, as in Caffe, so that both have the same size if H or W is odd.

    Parameters
    ----------
    channels
        C, width of input and output.
    **unit
        ``slope`` and ``eps`` of :class:`ConvNormAct`.

    Inputs / Outputs
        ``(N, C, H, W)`` to ``(N, C, ceil(H / 2), ceil(W / 2))``.

    References
    ----------
    Section 2.1, Fig. 2; Robert-JunWang/PeleeNet, ``peleenet.py``, ``_StemBlock``.
    """

    def __init__(self, channels: int, prefix: str | None = None, **unit: Any) -> None:
        super().__init__(prefix=prefix)
        self._channels, half = channels, max(1, channels // 2)
        down: dict[str, Any] = {"strides": 2, **unit}
        with self.name_scope():
            self.pool = nn.MaxPool2D(2, 2, ceil_mode=True, prefix="pool_")
            self.conv1 = ConvNormAct(channels, half, prefix="conv1_", **unit)
            self.conv2 = ConvNormAct(half, channels, 3, prefix="conv2_", **down)
            self.fuse = ConvNormAct(2 * channels, channels, prefix="fuse_", **unit)

    def hybrid_forward(self, F: Any, x: Tensor) -> Tensor:
        """Concatenate the two ways and fuse them."""
        return self.fuse(concat(F, self.pool(x), self.conv2(self.conv1(x)), self._channels))


class TwoWayLayer(nn.HybridBlock):
    """Appends k feature maps: half from one 3x3 convolution, half from two, each after a 1x1.

    Parameters
    ----------
    in_channels
        Width of the input.
    growth_rate
        k, the number of new feature maps, at least 2.
    bn_size
        Width of each 1x1 convolution in units of k / 2.
    attention
        ``"se"`` applies squeeze-and-excitation to the new feature maps.
    drop_path
        Probability that an image's new feature maps are zero in training.
    **unit
        ``eps``, ``dropout`` and ``dropout_after`` of :class:`ConvNormAct`.

    Inputs / Outputs
        ``(N, in_channels, H, W)`` to ``(N, in_channels + k, H, W)``; the first ``in_channels`` are
        the input, unchanged.

    References
    ----------
    Section 2.1, "Two-Way Dense Layer", Fig. 1; Robert-JunWang/PeleeNet, ``_DenseLayer``.
    """

    def __init__(
        self,
        in_channels: int,
        growth_rate: int,
        bn_size: int,
        attention: str | None = None,
        drop_path: float = 0.0,
        prefix: str | None = None,
        **unit: Any,
    ) -> None:
        super().__init__(prefix=prefix)
        self._in_channels, self.out_channels = in_channels, in_channels + growth_rate
        self._half = growth_rate // 2
        width = bn_size * self._half
        with self.name_scope():
            self.branch1 = self._branch(in_channels, width, self._half, 1, "branch1_", unit)
            rest = growth_rate - self._half
            self.branch2 = self._branch(in_channels, width, rest, 2, "branch2_", unit)
            self.attention = None
            if attention == "se":
                self.attention = SqueezeExcite(growth_rate, prefix="attention_")
            self.drop_path = drop_path_layer(drop_path)

    @staticmethod
    def _branch(
        in_channels: int, width: int, channels: int, depth: int, prefix: str, unit: dict[str, Any]
    ) -> Chain:
        """Return a 1x1 convolution and ``depth`` 3x3 convolutions."""
        branch = Chain(prefix=prefix)
        with branch.name_scope():
            branch.add(ConvNormAct(in_channels, width, prefix="conv1_", **unit))
            for index in range(2, depth + 2):
                branch.add(ConvNormAct(width, channels, 3, prefix=f"conv{index}_", **unit))
                width = channels
        return branch

    def hybrid_forward(self, F: Any, x: Tensor) -> Tensor:
        """Append the new feature maps to the input."""
        new = concat(F, self.branch1(x), self.branch2(x), self._half)
        if self.attention is not None:
            new = self.attention(new)
        if self.drop_path is not None:
            new = self.drop_path(new)
        return concat(F, x, new, self._in_channels)


class TwoWayBlock(Chain):
    """A sequence of two-way dense layers.

    Parameters
    ----------
    in_channels, growth_rate, bn_size, **options
        As in :class:`TwoWayLayer`.
    drop_path
        Probability of each of the L layers.

    Inputs / Outputs
        ``(N, in_channels, H, W)`` to ``(N, in_channels + L k, H, W)``.
    """

    def __init__(
        self,
        in_channels: int,
        growth_rate: int,
        bn_size: int,
        drop_path: Sequence[float],
        prefix: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(prefix=prefix)
        self.out_channels = in_channels
        with self.name_scope():
            for index, rate in enumerate(drop_path, start=1):
                place: dict[str, Any] = {"drop_path": rate, "prefix": f"layer{index}_"}
                layer = TwoWayLayer(self.out_channels, growth_rate, bn_size, **place, **options)
                self.add(layer)
                self.out_channels = layer.out_channels


class PeleeTransition(Chain):
    """Conv1x1-BN-ReLU that keeps the width, and 2x2 average pooling ("no compression").

    Parameters
    ----------
    channels
        Width of input and output.
    pool
        ``"last"`` or ``"first"``: whether the pooling follows the convolution or precedes it. None
        omits it.
    **unit
        Options of :class:`ConvNormAct`.

    Inputs / Outputs
        ``(N, channels, H, W)`` to ``(N, channels, H // 2, W // 2)``.
    """

    def __init__(
        self, channels: int, pool: str | None = "last", prefix: str | None = None, **unit: Any
    ) -> None:
        super().__init__(prefix=prefix)
        self.out_channels, self.strides = channels, 2 if pool else 1
        with self.name_scope():
            if pool == "first":
                self.add(nn.AvgPool2D(2, 2, prefix="pool_"))
            self.add(ConvNormAct(channels, channels, prefix="conv_", **unit))
            if pool == "last":
                self.add(nn.AvgPool2D(2, 2, prefix="pool_"))

    def output_size(self, size: int) -> int:
        """Return the height (or width) of the output for an input of ``size``."""
        return size // self.strides
