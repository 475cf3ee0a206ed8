# SPDX-License-Identifier: Apache-2.0
"""The loss of YOLOv3, from a network's raw outputs and the boxes of a batch."""

from __future__ import annotations

import math
from typing import NamedTuple

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from mxnet.ndarray import NDArray

from ..errors import check_choice, check_range
from .box_losses import BOX_LOSSES, Placed
from .decode import decode_boxes
from .grid import grid
from .spec import ANCHORS_PER_SCALE, STRIDES, DetectorSpec

PARTS = ("box", "objectness", "class")
# Places for each cell of the coarsest scale, which covers 4 and 16 cells of the finer scales.
_PLACES = ANCHORS_PER_SCALE * sum((STRIDES[-1] // stride) ** 2 for stride in STRIDES)


class YOLOLoss(gluon.Block):
    """The loss of a YOLOv3 on square images, in three parts whose sum is minimized.

    Each box is assigned to the anchor that fits its width and height best, in the cell of its
    center, and with ``match`` to others that fit well. There the network learns the box, an
    objectness of 1 and the class; a box later in the labels replaces an earlier one at the same
    place. All other places learn an objectness of 0, except where the predicted box overlaps a box
    by more than ``ignore``.

    Parameters
    ----------
    spec
        The detector, for its anchors and strides.
    box_loss
        A key of :data:`.box_losses.BOX_LOSSES`. ``"l1"`` is GluonCV's: binary cross-entropy of the
        center within its cell, and absolute error of the logarithms of width and height.
    ignore
        Intersection over union in [0, 1].
    label_smoothing
        Target of the other classes, in [0, 0.5); that of the own class is smaller than 1 by it.
        GluonCV's ``--label-smooth`` is ``min(1 / classes, 1 / 40)``.
    match
        Intersection over union in [0, 1] of a box's and an anchor's size, centered, above which the
        box is assigned to this anchor too: ``iou_thresh`` of YOLOv4, where it is 0.213. 1 assigns a
        box to one anchor, as GluonCV. Where two boxes share a place, the one whose best anchor it
        is takes precedence.
    box_weight
        Factor of the first part, > 0.

    Inputs
        - **raw**: outputs of ``net.raw`` (N, P, 5 + classes)
        - **labels**: x1, y1, x2, y2 in pixels of the input, class, weight in (0, 1], (N, M, 6); all
          -1 where there is no box

    Outputs
        - the sums over boxes and places of each image, (N, 3): box, objectness, class

    Raises
    ------
    ValueError
        If an argument is outside its range, or P is not that of a square image.

    References
    ----------
    Redmon and Farhadi, "YOLOv3", section 2; GluonCV, ``YOLOV3Loss`` with
    ``YOLOV3PrefetchTargetGenerator`` and ``YOLOV3TargetMerger``, to which ``"l1"`` is equal.
    """

    def __init__(
        self,
        spec: DetectorSpec,
        box_loss: str = "l1",
        ignore: float = 0.7,
        label_smoothing: float = 0.0,
        match: float = 1.0,
        box_weight: float = 1.0,
    ) -> None:
        super().__init__()
        check_choice("box_loss", box_loss, BOX_LOSSES)
        check_range("ignore", ignore, 0, 1, "both")
        check_range("label_smoothing", label_smoothing, 0, 0.5)
        check_range("match", match, 0, 1, "both")
        check_range("box_weight", box_weight, 0, math.inf)
        self._spec, self._box_loss = spec, BOX_LOSSES[box_loss]
        self._ignore, self._smoothing = ignore, label_smoothing
        self._match, self._box_weight = match, box_weight
        self._places: dict[tuple[int, mx.Context], _Places] = {}

    def forward(self, raw: NDArray, labels: NDArray) -> NDArray:
        """Compute the loss."""
        places = self._find_places(raw)
        with autograd.pause():
            assigned = _assign(labels, places, self._match)
            boxes, classes = (
                assigned.labels.slice_axis(2, 0, 4),
                assigned.labels.slice_axis(2, 4, 5),
            )
            index, weight = assigned.index, assigned.weight
            positive = _scatter(weight, index, raw.shape[1])
            predicted = decode_boxes(mx.nd, raw, *places[:3])
            counted = mx.nd.where(
                positive > 0, positive, 1 - _overlaps(predicted, labels, self._ignore)
            )
        chosen = _gather(raw, index)
        placed = Placed(
            chosen, boxes, assigned.anchors, assigned.strides, assigned.cells, places.size
        )
        box = (self._box_loss(placed) * weight).sum(axis=1) * self._box_weight
        objectness = counted * _cross_entropy(raw.slice_axis(2, 4, 5).squeeze(2), positive > 0)
        target = mx.nd.one_hot(classes.squeeze(2), self._spec.classes)
        target = target * (1 - 2 * self._smoothing) + self._smoothing
        by_class = _cross_entropy(chosen.slice_axis(2, 5, None), target).sum(axis=2) * weight
        return mx.nd.stack(box, objectness.sum(axis=1), by_class.sum(axis=1), axis=1)

    def _find_places(self, raw: NDArray) -> _Places:
        key = raw.shape[1], raw.context
        if key not in self._places:
            self._places[key] = _Places.of(self._spec, *key)
        return self._places[key]


class _Places(NamedTuple):
    """The places of a square input, on a device, and for each of the nine anchors its scale."""

    cells: NDArray  # (P, 2)
    anchors: NDArray  # (P, 2)
    strides: NDArray  # (P,)
    table: NDArray  # (9, 6): width, height, stride, first place, cells in a row, anchor in the cell
    size: int

    @classmethod
    def of(cls, spec: DetectorSpec, count: int, device: mx.Context) -> _Places:
        side = math.isqrt(count // _PLACES)
        if not side or count != _PLACES * side**2:
            raise ValueError(f"outputs of {count} places are not those of a square image.")
        size = side * STRIDES[-1]
        rows: list[tuple[float, ...]] = []
        first = 0
        for stride, anchors in spec.scales:
            side = size // stride
            rows += [(*anchor, stride, first, side, at) for at, anchor in enumerate(anchors)]
            first += side**2 * len(anchors)
        arrays = (*grid(spec, size, size), np.array(rows, np.float32))
        cells, anchor_sizes, strides, table = (mx.nd.array(array, device) for array in arrays)
        return cls(cells, anchor_sizes, strides, table, size)


class _Assigned(NamedTuple):
    """The places of the boxes, K of each one, and what is known of them.

    The weight is 0 and the place P, after the last one, for rows without a box, for anchors that
    do not fit, and for boxes that another one replaces.
    """

    labels: NDArray  # (N, MK, 6)
    index: NDArray  # (N, MK)
    weight: NDArray  # (N, MK)
    anchors: NDArray  # width and height, (N, MK, 2)
    strides: NDArray  # (N, MK)
    cells: NDArray  # column and row, (N, MK, 2)


def _assign(labels: NDArray, places: _Places, match: float) -> _Assigned:
    """Assign each box to the anchors that fit, in the cells of its center."""
    fit = _fit(labels, places)
    anchors = fit.argmax(axis=2, keepdims=True)
    is_best = fits = mx.nd.ones_like(anchors)
    if match < 1:  # all nine are candidates
        best, numbers = anchors, mx.nd.arange(fit.shape[2], ctx=fit.context)
        anchors = numbers.reshape((1, 1, -1)).broadcast_like(fit)
        is_best = mx.nd.broadcast_equal(anchors, best)
        fits = mx.nd.maximum(is_best, fit > match)
    labels = labels.repeat(anchors.shape[2], axis=1)
    rows = places.table.take(anchors).reshape((0, -3, 0))
    is_best, fits = (each.reshape((0, -1)) for each in (is_best, fits))
    x1, y1, x2, y2, classes, weight = mx.nd.split(labels, 6, axis=2)
    stride, first, side, at = mx.nd.split(rows.slice_axis(2, 2, 6), 4, axis=2)
    centers = mx.nd.concat(x1 + x2, y1 + y2, dim=2) / 2
    cells = mx.nd.floor(mx.nd.broadcast_div(centers, stride)).relu()
    cells = mx.nd.broadcast_minimum(cells, side - 1)  # a center may be on the image's border
    column, row = mx.nd.split(cells, 2, axis=2)
    index = (first + (row * side + column) * ANCHORS_PER_SCALE + at).squeeze(2)
    weight = (weight.relu() * (classes >= 0)).squeeze(2) * fits
    weight = weight * (1 - _replaced(index, weight > 0, is_best))
    nowhere = mx.nd.full(index.shape, len(places.strides), index.context)
    index = mx.nd.where(weight > 0, index, nowhere)
    return _Assigned(labels, index, weight, rows.slice_axis(2, 0, 2), stride.squeeze(2), cells)


def _fit(labels: NDArray, places: _Places) -> NDArray:
    """Return the intersection over union of the sizes of boxes and anchors, (N, M, 9)."""
    x1, y1, x2, y2 = mx.nd.split(labels.slice_axis(2, 0, 4), 4, axis=2)
    width, height = x2 - x1, y2 - y1
    wide, tall = (places.table.slice_axis(1, at, at + 1).reshape((1, 1, -1)) for at in (0, 1))
    shared = mx.nd.broadcast_minimum(width, wide) * mx.nd.broadcast_minimum(height, tall)
    return shared / (mx.nd.broadcast_add(width * height, wide * tall) - shared)


def _replaced(index: NDArray, valid: NDArray, is_best: NDArray) -> NDArray:
    """Return 1 where an equal valid index of the image takes precedence, else 0, (N, MK).

    Those of best anchors take precedence over others, and later ones over earlier ones.
    """
    order = mx.nd.arange(index.shape[1], ctx=index.context)
    rank = mx.nd.broadcast_add(is_best * index.shape[1], order.expand_dims(0))
    lower = mx.nd.broadcast_lesser(rank.expand_dims(2), rank.expand_dims(1))
    equal = mx.nd.broadcast_equal(index.expand_dims(2), index.expand_dims(1))
    return mx.nd.broadcast_mul(equal * lower, valid.expand_dims(1)).max(axis=2)


def _indices(index: NDArray) -> NDArray:
    """Return indices (2, N, M) for an array (N, P, …) from those of the places, (N, M)."""
    images = mx.nd.arange(len(index), ctx=index.context).expand_dims(1)
    return mx.nd.stack(images.broadcast_like(index), index, axis=0)


def _scatter(values: NDArray, index: NDArray, count: int) -> NDArray:
    """Return the values at their places, else 0, (N, P); there is no place ``count``."""
    shape = (len(values), count + 1)
    return mx.nd.scatter_nd(values, _indices(index), shape=shape).slice_axis(1, 0, count)


def _gather(raw: NDArray, index: NDArray) -> NDArray:
    """Return the outputs at some places, (N, M, 5 + classes); any where there is none."""
    return mx.nd.gather_nd(raw, _indices(mx.nd.minimum(index, raw.shape[1] - 1)))


def _overlaps(predicted: NDArray, labels: NDArray, threshold: float) -> NDArray:
    """Return 1 where a predicted box overlaps any box by more than the threshold, else 0, (N, P).

    The comparison is ``shared > threshold * union`` of each pair, without a division.
    """
    x1, y1, x2, y2 = (
        a.expand_dims(2) for a in mx.nd.split(predicted, 4, axis=2, squeeze_axis=True)
    )
    left, top, right, low = (
        a.expand_dims(1)
        for a in mx.nd.split(labels.slice_axis(2, 0, 4), 4, axis=2, squeeze_axis=True)
    )
    width = (mx.nd.broadcast_minimum(x2, right) - mx.nd.broadcast_maximum(x1, left)).relu()
    height = (mx.nd.broadcast_minimum(y2, low) - mx.nd.broadcast_maximum(y1, top)).relu()
    areas = mx.nd.broadcast_add((x2 - x1) * (y2 - y1), (right - left) * (low - top))
    return (width * height * (1 + threshold) > areas * threshold).max(axis=2)


def _cross_entropy(logits: NDArray, target: NDArray) -> NDArray:
    """Return the binary cross-entropy of logits, elementwise; stable for logits of any size."""
    return mx.nd.Activation(logits, act_type="softrelu") - logits * target
