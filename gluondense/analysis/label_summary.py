# SPDX-License-Identifier: Apache-2.0
"""All metrics of predictions of several labels per image, ready for JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Optional

import numpy as np

from .bootstrap import bootstrap, describe_intervals
from .label_metrics import label_metrics, precision_and_recall
from .multi_label import MultiLabelPredictions


def label_summary(
    predictions: MultiLabelPredictions,
    class_names: Sequence[str],
    thresholds: np.ndarray,
    groups: Optional[np.ndarray] = None,
) -> dict[str, Any]:
    """Return the metrics, their intervals, and those at the thresholds; null where there are none.

    ``groups`` is the group of each image, of which :func:`bootstrap` draws whole ones.

    Examples
    --------
    >>> labels = np.array([[1, 1], [0, 1], [1, 1]], np.float32)
    >>> scores = np.array([[0.9, 0.6], [0.2, 0.7], [0.8, 0.3]], np.float32)
    >>> predictions = MultiLabelPredictions(scores, labels)
    >>> found = label_summary(predictions, ("cat", "dog"), np.array([0.5, 0.5]))
    >>> found["mean_auroc"], found["labels"]["dog"]["auroc"], found["labels"]["dog"]["recall"]
    (1.0, None, 0.6666666666666666)
    """
    labels, scores = predictions.labels, predictions.probabilities
    metrics, intervals = label_metrics(labels, scores), bootstrap(labels, scores, groups)
    precision, recall = precision_and_recall(labels, scores, thresholds)
    count = len(labels)
    return {
        "mean_auroc": _number(metrics.mean_auroc),
        "mean_auroc_interval": _numbers(intervals.mean_auroc),
        "mean_average_precision": _number(metrics.mean_average_precision),
        "mean_average_precision_interval": _numbers(intervals.mean_average_precision),
        "loss": predictions.loss,
        "intervals": describe_intervals(intervals),
        "labels": {
            name: {
                "present": int(metrics.positives[label]),
                "absent": int(metrics.negatives[label]),
                "unknown": count - int(metrics.positives[label] + metrics.negatives[label]),
                "auroc": _number(metrics.auroc[label]),
                "auroc_interval": _numbers(intervals.auroc[label]),
                "average_precision": _number(metrics.average_precision[label]),
                "average_precision_interval": _numbers(intervals.average_precision[label]),
                "threshold": float(thresholds[label]),
                "precision": _number(precision[label]),
                "recall": _number(recall[label]),
            }
            for label, name in enumerate(class_names)
        },
    }


def _number(value: float) -> Optional[float]:
    return None if math.isnan(value) else float(value)


def _numbers(values: Iterable[float]) -> Optional[list[float]]:
    numbers = [float(value) for value in values]
    return None if any(map(math.isnan, numbers)) else numbers
