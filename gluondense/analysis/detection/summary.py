# SPDX-License-Identifier: Apache-2.0
"""All metrics of a detector, ready for JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Optional

import numpy as np

from .average_precision import average_precisions, mean_known
from .coco import CocoMetrics, coco_metrics
from .detections import Detections
from .intervals import Intervals, bootstrap
from .matching import Matches, match
from .outcomes import SIZES, Outcomes, best_threshold, count_by_size, count_outcomes


@dataclass(frozen=True)
class DetectionSummary:
    """The metrics of detections, each computed once when it is first read.

    Parameters
    ----------
    predictions, class_names
        The detections with the true boxes, and a name for each class index.

    Examples
    --------
    >>> truth = np.array([[[0, 0, 8, 8, 1, 0]]], np.float32)
    >>> boxes = np.array([[[1, 0.9, 0, 0, 8, 6]]])
    >>> found = DetectionSummary(Detections(boxes, truth, np.array([[16, 16]])), ("cat", "dog"))
    >>> found.mean_ap50, found.to_dict()["classes"]["dog"]["right"]
    (1.0, 1)
    """

    predictions: Detections
    class_names: Sequence[str]

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @cached_property
    def matches(self) -> Matches:
        """Detections and true boxes at an IoU of 0.5."""
        return match(self.predictions)

    @cached_property
    def threshold(self) -> float:
        """Score of the largest F1 score, see :func:`.best_threshold`."""
        return best_threshold(self.matches)

    @cached_property
    def outcomes(self) -> Outcomes:
        """Right, missed and invented boxes of each class at the threshold."""
        return count_outcomes(self.matches, self.classes, self.threshold)

    @cached_property
    def ap50(self) -> np.ndarray:
        """Average precision at an IoU of 0.5 of each class, as VOC 2012, (classes,)."""
        return average_precisions(self.matches, self.classes)

    @property
    def mean_ap50(self) -> float:
        """Mean of :attr:`ap50` over the classes with true boxes."""
        return mean_known(self.ap50)

    @cached_property
    def intervals(self) -> Intervals:
        """Bootstrap intervals of :attr:`ap50`."""
        return bootstrap(self.matches, np.flatnonzero(self.predictions.readable), self.classes)

    @cached_property
    def coco(self) -> Optional[CocoMetrics]:
        """COCO's metrics; None without pycocotools."""
        try:
            return coco_metrics(self.predictions, self.classes)
        except ImportError:
            return None

    def to_dict(self) -> dict[str, Any]:
        """Return all metrics; null where there are none, or for COCO's without pycocotools."""
        voc07 = average_precisions(self.matches, self.classes, "11 points")
        total = self.outcomes.total
        truths, found = count_by_size(self.matches, self.classes, self.threshold)
        return {
            "mean_ap50": _number(self.mean_ap50),
            "mean_ap50_interval": _numbers(self.intervals.mean_average_precision),
            "mean_ap50_voc07": _number(mean_known(voc07)),
            "coco": self.coco and {k: _number(v) for k, v in self.coco.summary.items()},
            "threshold": self.threshold,
            "precision": _number(total.precision[0]),
            "recall": _number(total.recall[0]),
            "recall_by_size": {
                size: {"truth": int(count), "found": int(hits)}
                for size, count, hits in zip(SIZES, truths.sum(axis=0), found.sum(axis=0))
            },
            "intervals": self.intervals.describe(),
            "classes": {
                name: self._class_dict(label) | {"ap50_voc07": _number(voc07[label])}
                for label, name in enumerate(self.class_names)
            },
        }

    def _class_dict(self, label: int) -> dict[str, Any]:
        counts = self.outcomes
        own = self.matches.true_labels == label
        return {
            "truth": int(np.count_nonzero(own & ~self.matches.difficult)),
            "difficult": int(np.count_nonzero(own & self.matches.difficult)),
            "ap50": _number(self.ap50[label]),
            "ap50_interval": _numbers(self.intervals.average_precision[label]),
            "ap": self.coco and _number(self.coco.average_precision[label]),
            "right": int(counts.right[label]),
            "missed": int(counts.missed[label]),
            "invented": int(counts.invented[label]),
            "precision": _number(counts.precision[label]),
            "recall": _number(counts.recall[label]),
        }


def _number(value: float) -> Optional[float]:
    return None if math.isnan(value) else float(value)


def _numbers(values: Iterable[float]) -> Optional[list[float]]:
    numbers = [float(value) for value in values]
    return None if any(map(math.isnan, numbers)) else numbers
