# SPDX-License-Identifier: Apache-2.0
"""Blocks of DenseNet (Huang et al., "Densely Connected Convolutional Networks", section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mxnet.gluon import nn

from .attention import PathWeights, SqueezeExcite
from .base import Chain, Tensor, concat, norm_act_conv
from .dropout import drop_path_layer


class DenseLayer(Chain):
    """BN-ReLU-Conv1x1(bn_size k)-BN-ReLU-Conv3x3(k); appends the k new feature maps to the input.

    Parameters
    ----------
    in_channels
        Width of the input.
    growth_rate
        k, the number of new feature maps.
    bn_size
        Width of the bottleneck in units of k (4 in DenseNet-B); 0 omits the bottleneck.
    attention
        ``"se"`` applies squeeze-and-excitation to the new feature maps.
    drop_path
        Probability that an image's new feature maps are zero in training.
    **conv
        Options of :func:`~gluondense.blocks.norm_act_conv`. By default dropout follows each
        convolution, as in the authors' code; the ports of Gluon and torchvision have
        ``dropout_after="3x3"``.

    Inputs / Outputs
        ``(N, in_channels, H, W)`` to ``(N, in_channels + growth_rate, H, W)``; the first
        ``in_channels`` of the output are the input, unchanged.
    """

    def __init__(
        self,
        in_channels: int,
        growth_rate: int,
        bn_size: int = 4,
        attention: str | None = None,
        drop_path: float = 0.0,
        prefix: str | None = None,
        **conv: Any,
    ) -> None:
        # (kernel, width) of each convolution
        convolutions = ([(1, bn_size * growth_rate)] if bn_size else []) + [(3, growth_rate)]
        super().__init__(prefix=prefix)
        self._in_channels, self.out_channels = in_channels, in_channels + growth_rate
        with self.name_scope():
            for index, (kernel, width) in enumerate(convolutions, start=1):
                self.add(*norm_act_conv(in_channels, width, kernel, str(index), **conv))
                in_channels = width
            if attention == "se":
                self.add(SqueezeExcite(growth_rate, prefix="attention_"))
            if drop_path:
                self.add(drop_path_layer(drop_path))

    def hybrid_forward(self, F: Any, x: Tensor) -> Tensor:
        """Append the new feature maps to the input."""
        return concat(F, x, super().hybrid_forward(F, x), self._in_channels)


class DenseBlock(Chain):
    """A sequence of dense layers; each reads the input and the feature maps of all previous layers.

    Parameters
    ----------
    in_channels, growth_rate, bn_size, attention, **conv
        As in :class:`DenseLayer`. ``attention="path"`` weights the block's input and its new
        feature maps at the end of the block.
    num_layers
        L, the number of layers.
    drop_path
        Probability of each layer, see :class:`DenseLayer`; empty for none.
    keep_input
        False excludes the block's input from its output, as Knight825/models-pytorch but no paper.

    Inputs / Outputs
        ``(N, in_channels, H, W)`` to ``(N, in_channels + L k, H, W)``, or to ``(N, L k, H, W)``.
    """

    def __init__(
        self,
        in_channels: int,
        num_layers: int,
        growth_rate: int,
        bn_size: int = 4,
        attention: str | None = None,
        keep_input: bool = True,
        drop_path: Sequence[float] = (),
        prefix: str | None = None,
        **conv: Any,
    ) -> None:
        super().__init__(prefix=prefix)
        self._in_channels, self._keep_input = in_channels, keep_input
        channels = in_channels
        with self.name_scope():
            for index, rate in enumerate(drop_path or [0.0] * num_layers, start=1):
                options = {"drop_path": rate, "prefix": f"layer{index}_", **conv}
                layer = DenseLayer(channels, growth_rate, bn_size, attention, **options)
                self.add(layer)
                channels = layer.out_channels
            self.out_channels = channels if keep_input else channels - in_channels
            # Not part of the sequence, because it has two inputs.
            self._path_weights = attention == "path" and keep_input
            if self._path_weights:
                self.attention = PathWeights(self.out_channels, prefix="attention_")

    def hybrid_forward(self, F: Any, x: Tensor) -> Tensor:
        """Run the layers, then keep, exclude or weight the input."""
        for name, layer in self._children.items():
            if name != "attention":
                x = layer(x)
        if self._path_weights:
            old = F.slice_axis(x, axis=1, begin=0, end=self._in_channels)
            new = F.slice_axis(x, axis=1, begin=self._in_channels, end=None)
            old, new = self.attention(old, new)
            return concat(F, old, new, self._in_channels)
        return x if self._keep_input else F.slice_axis(x, axis=1, begin=self._in_channels, end=None)


class Transition(Chain):
    """BN-ReLU-Conv1x1 and 2x2 average pooling between two stages.

    The paper does not mention a ReLU here; the authors' code has one.

    Parameters
    ----------
    in_channels
        Width of the input.
    channels
        Width of the output, floor(theta * in_channels) in DenseNet-C. None keeps the input's width
        and omits BN-ReLU-Conv.
    pool
        False omits the pooling, as in the first transition of CSPNet.

    Inputs / Outputs
        ``(N, in_channels, H, W)`` to ``(N, channels, H // 2, W // 2)``.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int | None,
        pool: bool = True,
        prefix: str | None = None,
        **conv: Any,
    ) -> None:
        super().__init__(prefix=prefix)
        if channels is not None and channels < 1:
            raise ValueError(
                f"a transition from {in_channels} to {channels} channels has no output: "
                "choose a larger compression or a smaller partial_ratio."
            )
        self.out_channels = in_channels if channels is None else channels
        self.strides = 2 if pool else 1
        with self.name_scope():
            if channels is not None:
                self.add(*norm_act_conv(in_channels, channels, 1, **conv))
            if pool:
                self.add(nn.AvgPool2D(2, 2, prefix="pool_"))

    def output_size(self, size: int) -> int:
        """Return the height (or width) of the output for an input of ``size``."""
        return size // self.strides
