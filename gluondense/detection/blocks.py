# SPDX-License-Identifier: Apache-2.0
"""Blocks of the detectors' necks and heads.

Units are Conv-BN-ReLU with a negative slope of 0.1, as in YOLOv3.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

from mxnet.gluon import nn

from ..blocks.base import ONEDNN_BLOCK, Chain, ConvNormAct, Tensor
from ..errors import check

SLOPE = 0.1
POOLS = (5, 9, 13)  # windows of spatial pyramid pooling in YOLOv3-SPP


def conv_unit(
    in_channels: int, channels: int, kernel: int = 1, strides: int = 1, *, prefix: str
) -> ConvNormAct:
    """Return Conv-BN-LeakyReLU, the unit of YOLOv3."""
    return ConvNormAct(in_channels, channels, kernel, strides=strides, slope=SLOPE, prefix=prefix)


class Maxout(nn.HybridBlock):
    """Compresses the channels: each output is the maximum of a group of ``groups`` inputs.

    With C / groups outputs, output g is the maximum of the channels g, g + C / groups …, as in
    darknet's ``maxpool_depth``.

    Parameters
    ----------
    in_channels
        C, width of the input.
    groups
        Number of channels in a group; it divides C.

    Inputs / Outputs
        ``(N, C, H, W)`` to ``(N, C / groups, H, W)``.

    Raises
    ------
    ValueError
        If ``groups`` does not divide ``in_channels``.

    References
    ----------
    Goodfellow et al., "Maxout Networks"; CSPNet, section 3.2, "Balance Computation";
    AlexeyAB/darknet, ``maxpool_layer.c``.
    """

    def __init__(self, in_channels: int, groups: int = 2, prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)
        check(
            "groups", groups, f"a divisor of in_channels={in_channels}", in_channels % groups == 0
        )
        self.out_channels = in_channels // groups
        self._starts = range(0, in_channels, self.out_channels)

    def hybrid_forward(self, F: Any, x: Tensor) -> Tensor:
        """Compare the parts of the input channel by channel."""
        size = self.out_channels
        parts = [F.slice_axis(x, axis=1, begin=i, end=i + size) for i in self._starts]
        return reduce(F.broadcast_maximum, parts)


class SpatialAttention(nn.HybridBlock):
    """SAM: the input times a gate for each of its values, sigmoid(BN(Conv1x1(x))).

    Parameters
    ----------
    channels
        Width of input and output.

    Inputs / Outputs
        ``(N, channels, H, W)`` for both.

    References
    ----------
    Woo et al., "CBAM", section 3, as darknet's ``[sam]`` modifies it: the gate has all channels and
    there is no pooling. CSPNet, section 4.2.
    """

    def __init__(self, channels: int, prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)
        with self.name_scope():
            self.gate = ConvNormAct(channels, channels, act=False, prefix="gate_")

    def hybrid_forward(self, F: Any, x: Tensor) -> Tensor:
        """Multiply the input by its gate."""
        return F.elemwise_mul(x, F.Activation(self.gate(x), act_type="sigmoid"))


class SpaceToDepth(nn.HybridBlock):
    """Subsamples without loss: each ``block`` x ``block`` square of pixels becomes one pixel.

    Output channel (i block + j) C + c is channel c of the pixels at row i and column j of the
    squares. PyTorch's ``pixel_unshuffle`` has the order (c block + i) block + j.

    Parameters
    ----------
    block
        Side of the squares.

    Inputs / Outputs
        ``(N, C, H, W)`` to ``(N, block² C, H / block, W / block)``; ``block`` divides H and W.

    References
    ----------
    Redmon and Farhadi, "YOLO9000", section 2, "Fine-Grained Features" (darknet's ``[reorg]``).
    """

    def __init__(self, block: int = 2, prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)
        self._block = block

    def hybrid_forward(self, F: Any, x: Tensor) -> Tensor:
        """Move pixels to channels."""
        return F.space_to_depth(x, block_size=self._block)


class Upsample(nn.HybridBlock):
    """Repeats each pixel in a square of side ``factor`` (nearest neighbour).

    Inputs / Outputs
        ``(N, C, H, W)`` to ``(N, C, factor H, factor W)``.
    """

    def __init__(self, factor: int = 2, prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)
        self._factor = factor

    def hybrid_forward(self, F: Any, x: Tensor) -> Tensor:
        """Repeat the pixels."""
        return F.UpSampling(x, scale=self._factor, sample_type="nearest")


class SPP(nn.HybridBlock):
    """Spatial pyramid pooling: max-poolings of windows 5, 9 and 13 beside their input.

    A 1x1 unit reduces the C channels to C / 2, rounded to a multiple of 16. These and the three
    poolings are concatenated and reduced to C by another unit. The widths are those of YOLOv5.

    Parameters
    ----------
    channels
        C, width of input and output.

    Inputs / Outputs
        ``(N, channels, H, W)`` for both.

    References
    ----------
    He et al., "Spatial Pyramid Pooling"; AlexeyAB/darknet, ``yolov3-spp.cfg``.
    """

    def __init__(self, channels: int, prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)
        half = ONEDNN_BLOCK * max(1, channels // (2 * ONEDNN_BLOCK))
        with self.name_scope():
            self.reduce = conv_unit(channels, half, prefix="reduce_")
            self.pools = Chain(prefix="")
            with self.pools.name_scope():
                for size in POOLS:
                    self.pools.add(nn.MaxPool2D(size, 1, size // 2, prefix=f"pool{size}_"))
            self.fuse = conv_unit((1 + len(POOLS)) * half, channels, prefix="fuse_")

    def hybrid_forward(self, F: Any, x: Tensor) -> Tensor:
        """Concatenate the reduced input and its poolings, and fuse them."""
        x = self.reduce(x)
        return self.fuse(F.concat(x, *[pool(x) for pool in self.pools], dim=1))
