# SPDX-License-Identifier: Apache-2.0
"""Blocks of DPN (Chen et al., "Dual Path Networks", section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mxnet.gluon import nn

from .attention import PathWeights, SqueezeExcite
from .base import NormActConv, Tensor, concat
from .dropout import drop_path_layer


class DualPathBlock(nn.HybridBlock):
    """A bottleneck whose output is added to the residual path and appended to the dense path.

    Parameters
    ----------
    in_channels
        Total width of both paths.
    bottleneck_width
        R, width of the first 1x1 and of the grouped 3x3 convolution.
    residual_width
        bw, width of the residual path.
    increment
        inc, number of channels appended to the dense path.
    groups
        G, groups of the 3x3 convolution.
    strides
        Strides of the 3x3 convolution and the projection.
    project
        True in the first block of a stage: both paths start from a 1x1 projection of the input to
        bw + 2 inc channels.
    attention
        ``"se"`` applies squeeze-and-excitation to the bottleneck's output, ``"path"`` weights its
        residual and its dense part.
    drop_path
        Probability that an image skips the block in training: both parts of its output are zero.

    Inputs
        ``(N, bw, H, W)`` and ``(N, d, H, W)``; with ``project``, one ``(N, in_channels, H, W)``.
    Outputs
        ``(N, bw, H', W')`` and ``(N, d + inc, H', W')``. The first d channels of the latter are the
        unchanged dense path; with ``project`` they are the 2 inc channels of the projection.
    """

    def __init__(
        self,
        in_channels: int,
        bottleneck_width: int,
        residual_width: int,
        increment: int,
        groups: int,
        strides: int = 1,
        project: bool = False,
        dropout: float = 0.0,
        dropout_after: str = "conv",
        eps: float = 1e-3,
        attention: str | None = None,
        drop_path: float = 0.0,
        prefix: str | None = None,
    ) -> None:
        super().__init__(prefix=prefix)
        self._residual_width, self._project = residual_width, project
        self._dense_width = 2 * increment if project else in_channels - residual_width
        width = residual_width + increment
        self.out_channels = (width + 2 * increment) if project else in_channels + increment
        conv: dict[str, Any] = {"eps": eps, "dropout": dropout, "dropout_after": dropout_after}
        with self.name_scope():
            if project:
                size: dict[str, Any] = {"strides": strides, "eps": eps}
                projected = residual_width + 2 * increment
                self.projection = NormActConv(in_channels, projected, prefix="projection_", **size)
            self.conv_a = NormActConv(in_channels, bottleneck_width, prefix="conv_a_", **conv)
            grouped = {"strides": strides, "groups": groups, "prefix": "conv_b_", **conv}
            self.conv_b = NormActConv(bottleneck_width, bottleneck_width, 3, **grouped)
            self.conv_c = NormActConv(bottleneck_width, width, prefix="conv_c_", **conv)
            self.se = SqueezeExcite(width, prefix="se_") if attention == "se" else None
            self.path = PathWeights(width, prefix="path_") if attention == "path" else None
            self.drop_path = drop_path_layer(drop_path)

    def hybrid_forward(
        self, F: Any, residual: Tensor, dense: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Add to the residual path, append to the dense path."""
        x = residual
        if dense is not None:
            x = concat(F, residual, dense, self._residual_width)
        if self._project:
            residual, dense = self._split(F, self.projection(x))
        out = self.conv_c(self.conv_b(self.conv_a(x)))
        if self.se is not None:
            out = self.se(out)
        if self.drop_path is not None:
            out = self.drop_path(out)
        added, appended = self._split(F, out)
        if self.path is not None:
            added, appended = self.path(added, appended)
        return residual + added, concat(F, dense, appended, self._dense_width)

    def _split(self, F: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        width = self._residual_width
        return (
            F.slice_axis(x, axis=1, begin=0, end=width),
            F.slice_axis(x, axis=1, begin=width, end=None),
        )


class DualPathStage(nn.HybridBlock):
    """A sequence of dual-path blocks; the first one has the projection and the strides.

    Parameters
    ----------
    in_channels
        Width of the input.
    num_blocks
        Number of blocks.
    residual_width
        bw, width of the residual path.
    strides
        Strides of the first block.
    drop_path
        Probability of each block; empty for none.
    **block
        ``prefix``, and the other parameters of :class:`DualPathBlock`.

    Inputs / Outputs
        ``(N, in_channels, H, W)`` to ``(N, bw + (num_blocks + 2) inc, H / strides, W / strides)``,
        the residual path followed by the dense path.
    """

    def __init__(
        self,
        in_channels: int,
        num_blocks: int,
        residual_width: int,
        strides: int = 1,
        drop_path: Sequence[float] = (),
        **block: Any,
    ) -> None:
        super().__init__(prefix=block.pop("prefix", None))
        self._residual_width, self.strides = residual_width, strides
        self.out_channels = in_channels
        with self.name_scope():
            for index, rate in enumerate(drop_path or [0.0] * num_blocks, start=1):
                first = index == 1
                child = DualPathBlock(
                    self.out_channels,
                    residual_width=residual_width,
                    strides=strides if first else 1,
                    project=first,
                    drop_path=rate,
                    prefix=f"block{index}_",
                    **block,
                )
                self.register_child(child, f"block{index}")
                self.out_channels = child.out_channels

    def hybrid_forward(self, F: Any, x: Tensor) -> Tensor:
        """Run the blocks and concatenate the two paths."""
        first, *rest = self._children.values()
        residual, dense = first(x)
        for block in rest:
            residual, dense = block(residual, dense)
        return concat(F, residual, dense, self._residual_width)

    def output_size(self, size: int) -> int:
        """Return the height (or width) of the output for an input of ``size``."""
        return (size - 1) // self.strides + 1
