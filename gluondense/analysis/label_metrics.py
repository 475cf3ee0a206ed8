# SPDX-License-Identifier: Apache-2.0
"""AUROC and average precision of several labels, and the thresholds of their probabilities.

Labels are arrays (N, L) of 1, 0 and NaN, which means unknown; scores are arrays (N, L). A label has
metrics only if it has both values among the known ones, otherwise they are NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class LabelMetrics:
    """Metrics of each label, and their means over the labels that have metrics.

    Parameters
    ----------
    positives, negatives
        Number of images with and without the label, (L,); the others are unknown.
    auroc, average_precision
        Area under the ROC curve and average precision of each label, (L,).
    mean_auroc, mean_average_precision
        Means over the labels with both values; NaN if there are none.
    """

    positives: np.ndarray
    negatives: np.ndarray
    auroc: np.ndarray
    average_precision: np.ndarray
    mean_auroc: float
    mean_average_precision: float


def label_metrics(labels: np.ndarray, scores: np.ndarray) -> LabelMetrics:
    """Compute the metrics of all labels with scikit-learn.

    Examples
    --------
    >>> labels = np.array([[1, 0], [0, 0], [1, 0], [np.nan, 0]])
    >>> found = label_metrics(labels, np.array([[0.9, 0.1], [0.4, 0.2], [0.3, 0.3], [0.5, 0.4]]))
    >>> found.auroc.tolist(), found.mean_auroc, found.positives.tolist()
    ([0.5, nan], 0.5, [2, 0])
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    count = labels.shape[1]
    auroc, precision = np.full(count, np.nan), np.full(count, np.nan)
    for label in measurable(labels):
        known = ~np.isnan(labels[:, label])
        true, score = labels[known, label] > 0, scores[known, label]
        auroc[label] = roc_auc_score(true, score)
        precision[label] = average_precision_score(true, score)
    positives, negatives = (labels == 1).sum(axis=0), (labels == 0).sum(axis=0)
    return LabelMetrics(positives, negatives, auroc, precision, _mean(auroc), _mean(precision))


def choose_thresholds(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the threshold of each label, (L,), at which its F1 score is largest.

    A score of at least the threshold means that the image has the label. The threshold is halfway
    between the lowest such score and the next lower one; of equal F1 scores, the highest threshold
    is taken. A label without metrics gets 0.5.

    Examples
    --------
    >>> labels = np.array([[1], [0], [1], [0]])
    >>> choose_thresholds(labels, np.array([[0.875], [0.25], [0.5], [0.125]])).tolist()
    [0.375]
    """
    thresholds = np.full(labels.shape[1], DEFAULT_THRESHOLD)
    for label in measurable(labels):
        known = ~np.isnan(labels[:, label])
        order = np.argsort(-scores[known, label], kind="stable")
        score = scores[known, label][order].astype(np.float64)
        hits = np.cumsum(labels[known, label][order] > 0)
        ends = np.flatnonzero(np.append(score[:-1] != score[1:], True))
        f1 = 2 * hits[ends] / (ends + 1 + hits[-1])
        best = ends[f1.argmax()]
        below = score[best + 1] if best + 1 < len(score) else 0.0
        thresholds[label] = (score[best] + below) / 2
    return np.clip(thresholds, np.finfo(np.float32).tiny, 1 - 1e-7)


def precision_and_recall(
    labels: np.ndarray, scores: np.ndarray, thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return precision and recall of each label at its threshold, (L,); NaN for a zero divisor.

    Examples
    --------
    >>> labels, scores = np.array([[1], [0], [1]]), np.array([[0.9], [0.8], [0.1]])
    >>> precision, recall = precision_and_recall(labels, scores, np.array([0.5]))
    >>> precision.tolist(), recall.tolist()
    ([0.5], [0.5])
    """
    predicted = (scores >= thresholds) & ~np.isnan(labels)
    hits = (predicted & (labels == 1)).sum(axis=0)
    with np.errstate(invalid="ignore"):
        return hits / predicted.sum(axis=0), hits / (labels == 1).sum(axis=0)


def describe_missing(metrics: LabelMetrics, class_names: Sequence[str]) -> str:
    """Say in a sentence which labels have no metrics, "" if all have."""
    missing = [class_names[label] for label in np.flatnonzero(np.isnan(metrics.auroc))]
    if not missing:
        return ""
    shown = ", ".join(missing[:5]) + ", …" * (len(missing) > 5)
    return f"Without metrics, because only one value occurs: {shown}."


def measurable(labels: np.ndarray) -> np.ndarray:
    """Return the indices of the labels with both values."""
    return np.flatnonzero((labels == 1).any(axis=0) & (labels == 0).any(axis=0))


def row_means(values: np.ndarray) -> np.ndarray:
    """Return the mean of each row's known values, (rows,); NaN for a row without any."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(axis=1) / known.sum(axis=1)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
