# SPDX-License-Identifier: Apache-2.0
"""Classification targets: a distribution over the classes for each image."""

from __future__ import annotations

import numpy as np

from ..configuration.sections import TaskConfig


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


def mixup(
    images: np.ndarray, targets: np.ndarray, alpha: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Blend each image and target with another one of the batch (mixup, Zhang et al. 2018).

    The weight of the first image is drawn from Beta(alpha, alpha) once per batch, as in GluonCV's
    scripts.
    """
    weight = np.float32(rng.beta(alpha, alpha))
    partner = rng.permutation(len(images))
    return (
        weight * images + (1 - weight) * images[partner],
        weight * targets + (1 - weight) * targets[partner],
    )


def cutmix(
    images: np.ndarray, targets: np.ndarray, alpha: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Paste a rectangle of another image of the batch; weight targets by area (Yun et al. 2019).

    The rectangle is drawn once per batch: its relative area is 1 minus a Beta(alpha, alpha) sample,
    its center is uniform, and it is clipped at the borders.
    """
    height, width = images.shape[2:]
    side = np.sqrt(1 - rng.beta(alpha, alpha))
    rows = _interval(height, side, rng)
    columns = _interval(width, side, rng)
    partner = rng.permutation(len(images))
    mixed = images.copy()
    mixed[:, :, rows, columns] = images[partner][:, :, rows, columns]
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    weight = np.float32(1 - area / (height * width))
    return mixed, weight * targets + (1 - weight) * targets[partner]


def _interval(size: int, share: float, rng: np.random.Generator) -> slice:
    half, center = int(size * share) // 2, int(rng.integers(0, size))
    return slice(max(center - half, 0), min(center + half, size))


def mix(
    images: np.ndarray, targets: np.ndarray, alphas: tuple[float, float], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Apply mixup or CutMix by their alphas, where 0 is off; a fair coin chooses between both."""
    methods = [(method, alpha) for method, alpha in zip((mixup, cutmix), alphas) if alpha]
    if not methods:
        return images, targets
    method, alpha = methods[int(rng.integers(len(methods)))] if len(methods) > 1 else methods[0]
    return method(images, targets, alpha, rng)


def mix_epoch(
    images: np.ndarray,
    targets: np.ndarray,
    config: TaskConfig,
    rng: np.random.Generator,
    epochs_left: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Apply :func:`mix` as configured, except in the last ``mix_off_epochs`` epochs."""
    if epochs_left <= config.mix_off_epochs:
        return images, targets
    return mix(images, targets, (config.mixup, config.cutmix), rng)
