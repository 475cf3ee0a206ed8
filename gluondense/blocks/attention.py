# SPDX-License-Identifier: Apache-2.0
"""Attention blocks: weights for channels and for paths."""

from __future__ import annotations

from typing import Any

from mxnet.gluon import nn

from .base import Tensor

ATTENTION = (None, "se", "path")


class SqueezeExcite(nn.HybridBlock):
    """Squeeze-and-excitation: scales each channel by a gate computed from all channels' means.

    Parameters
    ----------
    channels
        Width of input and output.
    reduction
        The hidden layer has ``channels // reduction`` units, at least 8.

    Inputs / Outputs
        ``(N, channels, H, W)`` for both.

    References
    ----------
    Hu et al., "Squeeze-and-Excitation Networks", section 3.
    """

    def __init__(self, channels: int, reduction: int = 16, prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)
        hidden = max(8, channels // reduction)
        with self.name_scope():
            self.pool = nn.GlobalAvgPool2D(prefix="pool_")
            self.fc1 = nn.Dense(hidden, activation="relu", in_units=channels, prefix="fc1_")
            self.fc2 = nn.Dense(channels, activation="sigmoid", in_units=hidden, prefix="fc2_")

    def hybrid_forward(self, F: Any, x: Tensor) -> Tensor:
        """Scale each channel by its gate."""
        gate = self.fc2(self.fc1(self.pool(x)))
        return F.broadcast_mul(x, gate.expand_dims(2).expand_dims(3))


class EffectiveSqueezeExcite(nn.HybridBlock):
    """Squeeze-and-excitation with one layer and a hard sigmoid, clip(z + 3, 0, 6) / 6.

    Parameters
    ----------
    channels
        Width of input and output.

    Inputs / Outputs
        ``(N, channels, H, W)`` for both.

    References
    ----------
    Lee and Park, "CenterMask", section 3.3; timm, ``EffectiveSEModule``.
    """

    def __init__(self, channels: int, prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)
        with self.name_scope():
            self.pool = nn.GlobalAvgPool2D(prefix="pool_")
            self.fc = nn.Conv2D(channels, 1, in_channels=channels, prefix="fc_")

    def hybrid_forward(self, F: Any, x: Tensor) -> Tensor:
        """Scale each channel by its gate."""
        gate = F.clip(self.fc(self.pool(x)) + 3, a_min=0, a_max=6) / 6
        return F.broadcast_mul(x, gate)


class PathWeights(nn.HybridBlock):
    """Weights for two paths, computed from the input: w = 2 softmax(fc(mean of both paths)).

    ``fc`` is initialized with zeros, so that both weights are 1 at first and change nothing.

    Parameters
    ----------
    channels
        Total width of the two paths.

    Inputs / Outputs
        ``(N, a, H, W)`` and ``(N, b, H, W)`` with a + b = channels; the same two tensors, scaled.
    """

    def __init__(self, channels: int, prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)
        with self.name_scope():
            self.pool = nn.GlobalAvgPool2D(prefix="pool_")
            self.fc = nn.Dense(2, in_units=channels, weight_initializer="zeros", prefix="fc_")

    def hybrid_forward(self, F: Any, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Scale each path by its weight."""
        mean = F.concat(self.pool(first), self.pool(second), dim=1)
        weights = (2 * F.softmax(self.fc(mean))).expand_dims(2).expand_dims(3)
        return (
            F.broadcast_mul(first, F.slice_axis(weights, axis=1, begin=0, end=1)),
            F.broadcast_mul(second, F.slice_axis(weights, axis=1, begin=1, end=2)),
        )
