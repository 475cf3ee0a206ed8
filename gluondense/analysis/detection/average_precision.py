# SPDX-License-Identifier: Apache-2.0
"""Average precision as Pascal VOC defines it, and precision-recall curves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import check_choice
from .detections import Detections
from .matching import IGNORED, IOU, RIGHT, Matches, match

RULES = ("area", "11 points")  # VOC 2010 to 2012, and VOC 2007
# Not linspace: 0.30000000000000004 is above a recall of 3 / 10, and GluonCV's values depend on it.
_RECALLS = np.arange(0.0, 1.1, 0.1)


@dataclass(frozen=True)
class Curve:
    """Precision and recall of a class after each detection by descending score, (D,).

    Parameters
    ----------
    scores, recall, precision
        (D,), without the ignored detections. Recall is NaN if there is no true box.
    """

    scores: np.ndarray
    recall: np.ndarray
    precision: np.ndarray

    def average_precision(self, rule: str = "area") -> float:
        """Return the average precision, 0 to 1; NaN for a class without true boxes.

        ``"area"`` is the area under the curve whose precision is made to decrease monotonically;
        ``"11 points"`` is the mean of this precision at a recall of 0, 0.1, ... 1.
        """
        check_choice("rule", rule, RULES)
        if len(self.recall) and np.isnan(self.recall[0]):
            return float("nan")
        # The largest precision at this recall or a higher one.
        envelope = np.append(np.maximum.accumulate(self.precision[::-1])[::-1], 0)
        if rule == "area":
            return float(np.diff(self.recall, prepend=0) @ envelope[:-1])
        return float(envelope[np.searchsorted(self.recall, _RECALLS)].mean())


def precision_recall(matches: Matches, label: int) -> Curve:
    """Return the precision-recall curve of a class."""
    chosen = (matches.labels == label) & (matches.outcomes != IGNORED)
    right = np.cumsum(matches.outcomes[chosen] == RIGHT)
    positives = np.count_nonzero((matches.true_labels == label) & ~matches.difficult)
    with np.errstate(invalid="ignore"):
        recall = right / positives
    return Curve(matches.scores[chosen], recall, right / np.arange(1, len(right) + 1))


def average_precisions(matches: Matches, classes: int, rule: str = "area") -> np.ndarray:
    """Return the average precision of each class, (classes,); NaN without true boxes.

    Examples
    --------
    >>> truth = np.array([[[0, 0, 8, 8, 1, 0]]], np.float32)
    >>> boxes = np.array([[[1, 0.9, 9, 9, 12, 12], [1, 0.8, 0, 0, 8, 8], [0, 0.7, 0, 0, 8, 8]]])
    >>> matches = match(Detections(boxes, truth, np.array([[16, 16]])))
    >>> average_precisions(matches, 2).tolist()
    [nan, 0.5]
    """
    values = [precision_recall(matches, c).average_precision(rule) for c in range(classes)]
    # No detection gives an empty curve, which knows no true boxes.
    return np.where(matches.positives(classes) > 0, values, np.nan)


def mean_ap(predictions: Detections, iou: float = IOU, rule: str = "area") -> float:
    """Return the mean average precision (mAP) over the classes that have true boxes.

    It equals ``gluoncv.utils.metrics.VOCMApMetric``, or ``VOC07MApMetric`` with ``"11 points"``,
    whose boxes include their last pixel: there x2 and y2 are smaller by 1. NaN if there are no
    true boxes.
    """
    aps = average_precisions(match(predictions, iou), predictions.classes, rule)
    return mean_known(aps)


def mean_known(values: np.ndarray) -> float:
    """Return the mean of the values that are not NaN; NaN if there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
