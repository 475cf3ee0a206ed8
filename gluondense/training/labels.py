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


def cutmix(
    images: np.ndarray, targets: np.ndarray, alpha: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Each image with a rectangle of another one of the batch, the targets by area (Yun et al.).

    One rectangle a batch; its area's share is drawn from Beta(alpha, alpha), its centre anywhere.
    """
    height, width = images.shape[2:]
    side = np.sqrt(1 - rng.beta(alpha, alpha))
    rows = _span(height, side, rng)
    columns = _span(width, side, rng)
    partner = rng.permutation(len(images))
    mixed = images.copy()
    mixed[:, :, rows, columns] = images[partner][:, :, rows, columns]
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    share = np.float32(1 - area / (height * width))
    return mixed, share * targets + (1 - share) * targets[partner]


def _span(size: int, share: float, rng: np.random.Generator) -> slice:
    half, center = int(size * share) // 2, int(rng.integers(0, size))
    return slice(max(center - half, 0), min(center + half, size))


def mix(
    images: np.ndarray,
    targets: np.ndarray,
    alphas: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Mixup or CutMix by their alphas, of which 0 is off; a coin decides between both."""
    ways = [(way, alpha) for way, alpha in zip((mixup, cutmix), alphas) if alpha]
    if not ways:
        return images, targets
    way, alpha = ways[int(rng.integers(len(ways)))] if len(ways) > 1 else ways[0]
    return way(images, targets, alpha, rng)
