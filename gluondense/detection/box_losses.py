# SPDX-License-Identifier: Apache-2.0
"""The losses of predicted boxes that YOLOv3 can be trained with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Callable, NamedTuple

import mxnet as mx
from mxnet import autograd
from mxnet.ndarray import NDArray

_EPSILON = 1e-9


class Placed(NamedTuple):
    """The boxes of a batch and the outputs of the network at their places.

    Parameters
    ----------
    raw
        Outputs of the network, (N, M, 5 + classes).
    boxes
        Corners in pixels, (N, M, 4).
    anchors, strides
        Width and height of the anchor in pixels, (N, M, 2), and the stride, (N, M).
    cells
        Column and row of the cell of the box's center, (N, M, 2).
    size
        Height and width of the image in pixels.
    """

    raw: NDArray
    boxes: NDArray
    anchors: NDArray
    strides: NDArray
    cells: NDArray
    size: int

    def weight(self) -> NDArray:
        """Return 2 minus the box's share of the image, (N, M): small boxes count more."""
        x1, y1, x2, y2 = _columns(self.boxes)
        return 2 - (x2 - x1) * (y2 - y1) / self.size**2


def l1(placed: Placed) -> NDArray:
    """Return GluonCV's loss (N, M): cross-entropy of the center, L1 of the logarithmic size."""
    x1, y1, x2, y2 = _columns(placed.boxes)
    with autograd.pause():
        centers = mx.nd.stack(x1 + x2, y1 + y2, axis=2) / 2
        centers = mx.nd.broadcast_div(centers, placed.strides.expand_dims(2)) - placed.cells
        sizes = mx.nd.stack(x2 - x1, y2 - y1, axis=2)
        sizes = mx.nd.log(mx.nd.maximum(sizes, 1) / placed.anchors)
    logits = placed.raw.slice_axis(2, 0, 2)
    error = mx.nd.Activation(logits, act_type="softrelu") - logits * centers
    error = error + mx.nd.abs(placed.raw.slice_axis(2, 2, 4) - sizes)
    return error.sum(axis=2) * placed.weight()


def giou(placed: Placed) -> NDArray:
    """Return 1 - GIoU (N, M), in which the smallest box around both is compared with their union.

    References
    ----------
    Rezatofighi et al., "Generalized intersection over union", algorithm 1.
    """
    pair = _Pair.of(placed)
    width, height = pair.around()
    area = width * height
    return (1 - pair.iou + (area - pair.union) / (area + _EPSILON)) * placed.weight()


def ciou(placed: Placed) -> NDArray:
    """Return 1 - CIoU (N, M), with the distance of the centers and the difference of the aspects.

    References
    ----------
    Zheng et al., "Distance-IoU loss", equations 7 to 12. As there, the trade-off alpha is a
    constant for the gradient.
    """
    pair = _Pair.of(placed)
    width, height = pair.around()
    (x1, y1, x2, y2), (left, top, right, low) = pair.predicted, pair.boxes
    distance = ((x1 + x2 - left - right) ** 2 + (y1 + y2 - top - low) ** 2) / 4
    aspects = (
        mx.nd.arctan((c - a) / (d - b + _EPSILON)) for a, b, c, d in (pair.predicted, pair.boxes)
    )
    first, second = aspects
    difference = 4 / math.pi**2 * (first - second) ** 2
    with autograd.pause():
        alpha = difference / (1 - pair.iou + difference + _EPSILON)
    apart = distance / (width**2 + height**2 + _EPSILON)
    return (1 - pair.iou + apart + alpha * difference) * placed.weight()


BOX_LOSSES: Mapping[str, Callable[[Placed], NDArray]] = {"l1": l1, "giou": giou, "ciou": ciou}


class _Pair(NamedTuple):
    """The predicted box and the true one: corners in pixels, union and IoU, all (N, M)."""

    predicted: tuple[NDArray, ...]
    boxes: tuple[NDArray, ...]
    union: NDArray
    iou: NDArray

    @classmethod
    def of(cls, placed: Placed) -> _Pair:
        column, row = _columns(placed.cells)
        tx, ty, tw, th = _columns(placed.raw.slice_axis(2, 0, 4))
        anchor_width, anchor_height = _columns(placed.anchors)
        x, y = (tx.sigmoid() + column) * placed.strides, (ty.sigmoid() + row) * placed.strides
        width, height = tw.exp() * anchor_width / 2, th.exp() * anchor_height / 2
        predicted = x - width, y - height, x + width, y + height
        boxes = _columns(placed.boxes)
        (x1, y1, x2, y2), (left, top, right, low) = predicted, boxes
        shared = (mx.nd.minimum(x2, right) - mx.nd.maximum(x1, left)).relu()
        shared = shared * (mx.nd.minimum(y2, low) - mx.nd.maximum(y1, top)).relu()
        union = (x2 - x1) * (y2 - y1) + (right - left) * (low - top) - shared
        return cls(predicted, boxes, union, shared / (union + _EPSILON))

    def around(self) -> tuple[NDArray, NDArray]:
        """Return width and height of the smallest box around both."""
        (x1, y1, x2, y2), (left, top, right, low) = self.predicted, self.boxes
        width = mx.nd.maximum(x2, right) - mx.nd.minimum(x1, left)
        return width, mx.nd.maximum(y2, low) - mx.nd.minimum(y1, top)


def _columns(array: NDArray) -> tuple[NDArray, ...]:
    """Split the last axis."""
    return tuple(mx.nd.split(array, array.shape[2], axis=2, squeeze_axis=True))
