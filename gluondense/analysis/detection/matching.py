# SPDX-License-Identifier: Apache-2.0
"""Which detections are right: the rule of Pascal VOC."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .detections import Detections

IOU = 0.5  # intersection over union from which on a detection matches a true box
RIGHT, INVENTED, IGNORED = 1, 0, -1  # outcomes: true positive, false positive, not counted


@dataclass(frozen=True)
class Matches:
    """All detections of a data set by descending score, and all true boxes.

    Parameters
    ----------
    images, labels, scores, boxes
        Index of the image, class index, score (D,) and box (D, 4) of each detection.
    outcomes
        ``RIGHT``, ``INVENTED``, or ``IGNORED`` for a detection of a difficult true box, (D,).
    matched
        Index of the true box of each detection that is not invented, else -1, (D,).
    true_images, true_labels, true_boxes, difficult
        Index of the image, class index (T,), box (T, 4) and flag (T,) of each true box.
    """

    images: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    outcomes: np.ndarray
    matched: np.ndarray
    true_images: np.ndarray
    true_labels: np.ndarray
    true_boxes: np.ndarray
    difficult: np.ndarray

    def found(self, threshold: float = 0.0) -> np.ndarray:
        """Return whether a detection of at least this score is right about each true box, (T,)."""
        found = np.zeros(len(self.true_labels), bool)
        found[self.matched[(self.outcomes == RIGHT) & (self.scores >= threshold)]] = True
        return found

    def positives(self, classes: int) -> np.ndarray:
        """Return the number of true boxes of each class that are not difficult, (classes,)."""
        return np.bincount(self.true_labels[~self.difficult], minlength=classes)[:classes]


def match(predictions: Detections, iou: float = IOU) -> Matches:
    """Match the detections to the true boxes of their image and class.

    A detection belongs to the true box with which it overlaps most, if their intersection over
    union is at least ``iou``. The detection with the highest score of a true box is right, others
    are invented; those of a difficult box are ignored. Detections of the same score keep the order
    of the arrays.

    References
    ----------
    Everingham et al., The Pascal Visual Object Classes Challenge, IJCV 2010, section 4.2.

    Examples
    --------
    >>> truth = np.array([[[0, 0, 8, 8, 1, 0]]], np.float32)
    >>> boxes = np.array([[[1, 0.9, 0, 0, 8, 6], [1, 0.8, 0, 0, 8, 8], [0, 0.7, 0, 0, 8, 8]]])
    >>> match(Detections(boxes, truth, np.array([[16, 16]]))).outcomes.tolist()
    [1, 0, 0]
    """
    readable = predictions.readable
    rows = predictions.detections.astype(np.float64)
    images, columns = np.nonzero((rows[..., 0] >= 0) & readable[:, None])
    rows = rows[images, columns]
    order = np.argsort(-rows[:, 1], kind="stable")
    images, rows = images[order], rows[order]
    truth = predictions.truth.astype(np.float64)
    true_images, columns = np.nonzero((truth[..., 4] >= 0) & readable[:, None])
    truth = truth[true_images, columns]
    labels, true_labels = rows[:, 0].astype(int), truth[:, 4].astype(int)
    classes = max(predictions.classes, 1)
    keys, true_keys = images * classes + labels, true_images * classes + true_labels
    matched = best_overlaps(rows[:, 2:], keys, truth[:, :4], true_keys, iou)
    difficult = truth[:, 5] > 0
    return Matches(
        *(images, labels, rows[:, 1], rows[:, 2:]),
        *(_outcomes(matched, difficult), matched),
        *(true_images, true_labels, truth[:, :4], difficult),
    )


def best_overlaps(
    boxes: np.ndarray, keys: np.ndarray, true_boxes: np.ndarray, true_keys: np.ndarray, iou: float
) -> np.ndarray:
    """Return the index of the true box of the same key that each box overlaps most, or -1.

    Only pairs of the same image and class, which a key stands for, are computed.
    """
    order = np.argsort(true_keys, kind="stable")
    first = np.searchsorted(true_keys[order], keys, "left")
    counts = np.searchsorted(true_keys[order], keys, "right") - first
    best = np.full(len(keys), -1)
    some = np.flatnonzero(counts)
    if not len(some):
        return best
    counts, first = counts[some], first[some]
    starts = np.cumsum(counts) - counts
    pairs = np.repeat(some, counts)
    truths = order[np.arange(len(pairs)) + np.repeat(first - starts, counts)]
    overlaps = box_iou(boxes[pairs], true_boxes[truths])
    largest = np.maximum.reduceat(overlaps, starts)
    hits = np.flatnonzero((overlaps == np.repeat(largest, counts)) & (overlaps >= iou))
    hits = hits[::-1]  # of equal overlaps, the first true box is written last
    best[pairs[hits]] = truths[hits]
    return best


def _outcomes(matched: np.ndarray, difficult: np.ndarray) -> np.ndarray:
    outcomes = np.full(len(matched), INVENTED, np.int8)
    hits = np.flatnonzero(matched >= 0)
    _, first = np.unique(matched[hits], return_index=True)
    outcomes[hits[first]] = RIGHT
    outcomes[hits[difficult[matched[hits]]]] = IGNORED
    return outcomes


def box_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the intersection over union of each pair of boxes (..., 4); 0 for empty boxes.

    Examples
    --------
    >>> box_iou(np.array([[0, 0, 2, 2], [0, 0, 0, 0]]), np.array([[1, 0, 3, 2], [0, 0, 0, 0]]))
    array([0.33333333, 0.        ])
    """
    low = np.maximum(boxes[..., :2], others[..., :2])
    high = np.minimum(boxes[..., 2:], others[..., 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=-1)
    union = box_area(boxes) + box_area(others) - shared
    return np.divide(shared, union, out=np.zeros_like(union, np.float64), where=shared > 0)


def box_area(boxes: np.ndarray) -> np.ndarray:
    """Return the area of each box (..., 4) in square pixels; 0 for inverted boxes."""
    return np.prod(np.maximum(boxes[..., 2:] - boxes[..., :2], 0), axis=-1)
