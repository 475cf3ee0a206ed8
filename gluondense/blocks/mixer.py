# SPDX-License-Identifier: Apache-2.0
"""Blocks of RDNet (Kim et al., 2024, "DenseNets Reloaded", section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mxnet as mx
from mxnet.gluon import nn

from ..errors import check
from .attention import EffectiveSqueezeExcite
from .base import Chain, Tensor, concat, conv2d
from .dropout import drop_path_layer, dropout_layers
from .norm import ChannelNorm


def _eights(width: float) -> int:
    return int(width / 8) * 8


class LayerScale(nn.HybridBlock):
    """Multiplies each channel of ``(N, channels, H, W)`` by a learned factor, at first 1e-6.

    References
    ----------
    Touvron et al., "Going Deeper with Image Transformers", section 2.
    """

    def __init__(self, channels: int, prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)
        initial = mx.init.Constant(1e-6)
        self.factor = self.params.get("factor", shape=(channels,), init=initial)

    def hybrid_forward(self, F: Any, x: Tensor, factor: Tensor) -> Tensor:
        """Scale each channel."""
        return F.broadcast_mul(x, F.reshape(factor, shape=(1, -1, 1, 1)))


class FeatureMixer(Chain):
    """Depthwise Conv7x7-LN-Conv1x1-GELU-Conv1x1(k), scaled; appends k feature maps to the input.

    Parameters
    ----------
    in_channels, growth_rate
        Width of the input; k. Between the 1x1 convolutions it is 4 ``in_channels``.
    squeeze_excite
        Whether effective squeeze-and-excitation weights the new feature maps.
    dropout, drop_path
        Probability that a value, and that all new feature maps of an image, are zero in training.

    Inputs / Outputs
        ``(N, in_channels, H, W)`` to ``(N, in_channels + growth_rate, H, W)``; the first
        ``in_channels`` of the output are the input, unchanged.
    """

    def __init__(
        self,
        in_channels: int,
        growth_rate: int,
        squeeze_excite: bool = False,
        eps: float = 1e-6,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        prefix: str | None = None,
    ) -> None:
        super().__init__(prefix=prefix)
        self._in_channels, self.out_channels = in_channels, in_channels + growth_rate
        width, bias = _eights(4 * in_channels), {"use_bias": True}
        with self.name_scope():
            self.add(
                conv2d(in_channels, in_channels, 7, groups=in_channels, prefix="conv1_", **bias),
                ChannelNorm(in_channels, eps, prefix="norm_"),
                conv2d(in_channels, width, 1, prefix="conv2_", **bias),
                nn.GELU(prefix="gelu_"),
                conv2d(width, growth_rate, 1, prefix="conv3_", **bias),
            )
            if squeeze_excite:
                self.add(EffectiveSqueezeExcite(growth_rate, prefix="attention_"))
            self.add(LayerScale(growth_rate, prefix="scale_"))
            if drop_path:
                self.add(drop_path_layer(drop_path))
            self.add(*dropout_layers(dropout, "conv", 1))

    def hybrid_forward(self, F: Any, x: Tensor) -> Tensor:
        """Append the new feature maps to the input."""
        return concat(F, x, super().hybrid_forward(F, x), self._in_channels)


class MixingBlock(Chain):
    """A transition, LN-Conv, and feature mixers, each of which reads all feature maps before it.

    Parameters
    ----------
    in_channels, growth_rate, **mixer
        As in :class:`FeatureMixer`.
    drop_path
        Probability of each mixer.
    compression
        theta, the ratio of channels that the transition keeps, to whole eights; 0 omits it.
    strides
        Kernel and strides of the transition's convolution, 1 or 2.

    Inputs / Outputs
        ``(N, in_channels, H, W)`` to ``(N, theta in_channels + n k, H // strides, W // strides)``
        for n mixers.
    """

    def __init__(
        self,
        in_channels: int,
        growth_rate: int,
        drop_path: Sequence[float],
        compression: float = 0.5,
        strides: int = 1,
        prefix: str | None = None,
        **mixer: Any,
    ) -> None:
        super().__init__(prefix=prefix)
        self.strides, self.out_channels = strides, in_channels
        with self.name_scope():
            if compression:
                self.out_channels = width = _eights(in_channels * compression)
                rule = f"at least 8 times {in_channels} channels, as widths are whole eights"
                check("compression", compression, rule, width > 0)
                self.add(
                    ChannelNorm(in_channels, mixer["eps"], prefix="norm_"),
                    nn.Conv2D(width, strides, strides, in_channels=in_channels, prefix="conv_"),
                )
            for index, rate in enumerate(drop_path, start=1):
                place: dict[str, Any] = {"drop_path": rate, "prefix": f"layer{index}_"}
                self.add(FeatureMixer(self.out_channels, growth_rate, **place, **mixer))
                self.out_channels += growth_rate

    def output_size(self, size: int) -> int:
        """Return the height (or width) of the output for an input of ``size``."""
        return size // self.strides
