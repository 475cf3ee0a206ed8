# SPDX-License-Identifier: Apache-2.0
"""Random detections and true boxes, with few distinct values so that equal ones are frequent."""

from __future__ import annotations

import numpy as np

from gluondense.analysis.detection.detections import Detections


def random_detections(
    seed: int,
    images: int = 12,
    detections: int = 8,
    truths: int = 5,
    classes: int = 3,
    size: int = 200,
    scores: int = 1000,
) -> Detections:
    """Draw true boxes, a tenth of them difficult, and detections near them and elsewhere.

    ``scores`` is the number of distinct scores.
    """
    rng = np.random.default_rng(seed)
    truth = np.full((images, truths, 6), -1.0, np.float32)
    found = np.full((images, detections, 6), -1.0, np.float32)
    for image in range(images):
        count = rng.integers(0, truths + 1)
        low = rng.integers(0, size // 2, (count, 2))
        high = low + rng.integers(4, size // 2, (count, 2))
        labels = rng.integers(0, classes, count)
        truth[image, :count] = np.c_[low, high, labels, rng.random(count) < 0.1]
        number = rng.integers(0, detections + 1)
        boxes = rng.integers(0, size, (number, 2))
        boxes = np.c_[boxes, boxes + rng.integers(0, size // 2, (number, 2))]
        names = rng.integers(0, classes, number)
        near = np.flatnonzero(rng.random(number) < 0.7) if count else []
        for row in near:
            own = rng.integers(count)
            boxes[row] = truth[image, own, :4] + rng.integers(-5, 6, 4)
            names[row] = labels[own] if rng.random() < 0.9 else names[row]
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])  # it may be empty, not inverted
        value = np.sort(rng.integers(1, scores + 1, number))[::-1] / scores
        found[image, :number] = np.c_[names, value, boxes]
    placements = np.tile(np.array([2 * size, 2 * size, 0.1, 0.1, 0, 0], np.float32), (images, 1))
    placements[rng.random(images) < 0.1] = -1  # unreadable
    return Detections(found, truth, placements)
