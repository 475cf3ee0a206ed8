"""Optional re-weighting of channels and of paths, the two ideas that close seed 001."""

from __future__ import annotations

from typing import Any

from mxnet.gluon import nn

from .base import Tensor

ATTENTION = (None, "se", "path")


class SqueezeExcite(nn.HybridBlock):
    """Squeeze-and-excitation: each channel scaled by a gate computed from all channels' means.

    Parameters
    ----------
    channels
        Width of input and output.
    reduction
        The hidden layer has ``channels // reduction`` units, at least 8.

    Inputs / Outputs
        ``(N, channels, H, W)`` both.

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


class PathWeights(nn.HybridBlock):
    """Two weights, one a path, computed from the input: w = 2 softmax(fc(mean of both paths)).

    The layer starts at zero, so that a network begins as if it were not there (both weights 1).

    Parameters
    ----------
    channels
        Width of the two paths together.

    Inputs / Outputs
        ``(N, a, H, W)`` and ``(N, b, H, W)`` with a + b = channels; the same two, scaled.
    """

    def __init__(self, channels: int, prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)
        with self.name_scope():
            self.pool = nn.GlobalAvgPool2D(prefix="pool_")
            self.fc = nn.Dense(2, in_units=channels, weight_initializer="zeros", prefix="fc_")

    def hybrid_forward(self, F: Any, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Scale both paths."""
        mean = F.concat(self.pool(first), self.pool(second), dim=1)
        weights = (2 * F.softmax(self.fc(mean))).expand_dims(2).expand_dims(3)
        return (
            F.broadcast_mul(first, F.slice_axis(weights, axis=1, begin=0, end=1)),
            F.broadcast_mul(second, F.slice_axis(weights, axis=1, begin=1, end=2)),
        )
