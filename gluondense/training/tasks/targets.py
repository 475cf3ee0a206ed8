# SPDX-License-Identifier: Apache-2.0
"""Classification targets: a distribution over the classes for each image."""

from __future__ import annotations

import numpy as np


def soft_labels(labels: np.ndarray, classes: int, smoothing: float = 0.0) -> np.ndarray:
    """Return one-hot rows (N, classes) with the share ``smoothing`` spread over all classes.

    Examples
    --------
    >>> soft_labels(np.array([1]), 4, 0.2)
    array([[0.05, 0.85, 0.05, 0.05]], dtype=float32)
    """
    rows = np.full((len(labels), classes), smoothing / classes, np.float32)
    rows[np.arange(len(labels)), labels] += 1 - smoothing
    return rows


def balanced_weights(counts: np.ndarray) -> tuple[float, ...]:
    """Return weights of the classes that are inverse to their numbers of images, as scikit-learn's.

    A class of ``count`` images has ``sum(counts) / (classes * count)``, so the mean weight of the
    images is 1. Each class must have an image.

    Examples
    --------
    >>> balanced_weights(np.array([30, 10]))
    (0.6666666666666666, 2.0)
    """
    return tuple((counts.sum() / (len(counts) * counts)).tolist())
