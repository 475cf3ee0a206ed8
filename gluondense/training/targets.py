"""Training targets: a distribution over the classes for each image."""

from __future__ import annotations

import numpy as np


def soft_labels(labels: np.ndarray, classes: int, smoothing: float = 0.0) -> np.ndarray:
    """One row a label (N, classes): ``1 - smoothing`` on it, ``smoothing`` spread over all classes.

    Examples
    --------
    >>> soft_labels(np.array([1]), 4, 0.2)
    array([[0.05, 0.85, 0.05, 0.05]], dtype=float32)
    """
    rows = np.full((len(labels), classes), smoothing / classes, np.float32)
    rows[np.arange(len(labels)), labels] += 1 - smoothing
    return rows


def mixup(
    images: np.ndarray, targets: np.ndarray, alpha: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Each image and target blended with another one of the batch (Zhang et al. 2018).

    The share of the first is drawn once a batch from Beta(alpha, alpha), as in GluonCV's scripts.
    """
    share = np.float32(rng.beta(alpha, alpha))
    partner = rng.permutation(len(images))
    return (
        share * images + (1 - share) * images[partner],
        share * targets + (1 - share) * targets[partner],
    )
