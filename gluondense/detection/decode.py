# SPDX-License-Identifier: Apache-2.0
"""Decode raw predictions to boxes, and select the detections.

The argument ``F`` is ``mx.nd`` or ``mx.sym``. With a cell at (cx, cy), its stride
s and an anchor (pw, ph), YOLOv3's box is (Redmon and Farhadi, section 2.1)

    x = s (sigmoid(tx) + cx)    y = s (sigmoid(ty) + cy)    w = pw exp(tw)    h = ph exp(th)

and its score for a class is sigmoid(objectness) sigmoid(logit of the class).
"""

from __future__ import annotations

from typing import Any

from ..blocks.base import Tensor
from .spec import DetectorSpec


def decode_boxes(F: Any, raw: Tensor, offsets: Tensor, anchors: Tensor, strides: Tensor) -> Tensor:
    """Return the boxes of raw predictions as corners.

    Inputs / Outputs
        ``(N, P, 4 or more)`` with tx, ty, tw, th first; ``(P, 2)``, ``(P, 2)`` and ``(P,)`` of
        :func:`gluondense.detection.grid.grid`; to ``(N, P, 4)`` of x1, y1, x2, y2 in pixels.
    """
    centers = F.sigmoid(F.slice_axis(raw, axis=-1, begin=0, end=2))
    sizes = F.exp(F.slice_axis(raw, axis=-1, begin=2, end=4))
    stride = strides.reshape((1, -1, 1))
    centers = F.broadcast_mul(F.broadcast_add(centers, offsets.expand_dims(0)), stride)
    half = F.broadcast_mul(sizes, anchors.expand_dims(0)) / 2
    return F.concat(centers - half, centers + half, dim=-1)


def decode_scores(F: Any, raw: Tensor) -> Tensor:
    """Return the scores of the classes.

    Inputs / Outputs
        ``(N, P, 5 + classes)`` to ``(N, P, classes)``.
    """
    objectness = F.sigmoid(F.slice_axis(raw, axis=-1, begin=4, end=5))
    return F.broadcast_mul(F.sigmoid(F.slice_axis(raw, axis=-1, begin=5, end=None)), objectness)


def to_rows(F: Any, boxes: Tensor, scores: Tensor, classes: int) -> Tensor:
    """Return a row (class index, score, x1, y1, x2, y2) for each class of each box.

    Inputs / Outputs
        ``(N, P, 4)`` and ``(N, P, classes)`` to ``(N, classes P, 6)``.
    """
    scores = F.transpose(scores, axes=(0, 2, 1)).expand_dims(-1)
    ids = F.broadcast_add(F.zeros_like(scores), F.arange(0, classes).reshape((1, -1, 1, 1)))
    boxes = F.tile(boxes.expand_dims(1), reps=(1, classes, 1, 1))
    return F.concat(ids, scores, boxes, dim=-1).reshape((0, -1, 6))


def suppress(
    F: Any,
    rows: Tensor,
    nms_threshold: float,
    nms_topk: int,
    post_nms: int,
    score_threshold: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Drop the boxes that overlap more probable ones of their class; sort the others by score.

    As in GluonCV, a threshold outside (0, 1) keeps all rows as they are, and a ``post_nms`` of 0
    or less all sorted ones.

    Inputs / Outputs
        ``(N, R, 6)`` of :func:`to_rows` to class indices ``(N, K, 1)``, scores ``(N, K, 1)`` and
        boxes ``(N, K, 4)`` with K = ``post_nms``; rows without a box are -1.
    """
    if 0 < nms_threshold < 1:
        rows = F.contrib.box_nms(
            rows,
            overlap_thresh=nms_threshold,
            valid_thresh=score_threshold,
            topk=nms_topk,
            id_index=0,
            score_index=1,
            coord_start=2,
            force_suppress=False,
        )
        if post_nms > 0:
            rows = rows.slice_axis(axis=1, begin=0, end=post_nms)
    ids, scores, boxes = (
        F.slice_axis(rows, axis=-1, begin=begin, end=end) for begin, end in ((0, 1), (1, 2), (2, 6))
    )
    return ids, scores, boxes


def detect(
    F: Any, raw: Tensor, offsets: Tensor, anchors: Tensor, strides: Tensor, spec: DetectorSpec
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the detections of raw predictions: :func:`decode_boxes` to :func:`suppress`.

    Equals the network's own inference, except for the order of equal scores.
    """
    boxes = decode_boxes(F, raw, offsets, anchors, strides)
    rows = to_rows(F, boxes, decode_scores(F, raw), spec.classes)
    limits = spec.nms_threshold, spec.nms_topk, spec.post_nms, spec.score_threshold
    return suppress(F, rows, *limits)
