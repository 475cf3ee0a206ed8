# SPDX-License-Identifier: Apache-2.0
"""The kinds of false positives."""

from __future__ import annotations

import numpy as np

from .matching import INVENTED, IOU, Matches, best_overlaps

NEAR = 0.1  # intersection over union from which on a box is near a true one
KINDS = {
    "duplicate": "of a true box that another detection has found",
    "other class": "on a true box of another class",
    "inexact": f"near a true box of its class, with an IoU of {NEAR:g} to {IOU:g}",
    "background": "near no true box",
}


def kinds_of_mistakes(matches: Matches) -> np.ndarray:
    """Return the index in ``KINDS`` of each invented detection, and -1 of the others, (D,).

    A detection that fits several kinds is of the first one.

    References
    ----------
    Bolya et al., TIDE: A General Toolbox for Identifying Object Detection Errors, section 2.2:
    duplicate, classification, localization and background errors. Its errors of both class and
    location count as background here.

    Examples
    --------
    >>> from gluondense.analysis.detection.detections import Detections
    >>> from gluondense.analysis.detection.matching import match
    >>> truth = np.array([[[0, 0, 8, 8, 0, 0]]], np.float32)
    >>> boxes = np.array([[[0, 0.9, 0, 0, 8, 8], [0, 0.8, 0, 0, 8, 7], [1, 0.7, 0, 0, 8, 8],
    ...                    [0, 0.6, 4, 0, 12, 8], [0, 0.5, 20, 20, 28, 28]]])
    >>> kinds_of_mistakes(match(Detections(boxes, truth, np.array([[32, 32]])))).tolist()
    [-1, 0, 1, 2, 3]
    """
    images, true_images = matches.images, matches.true_images
    classes = 1 + max(matches.labels.max(initial=0), matches.true_labels.max(initial=0))
    keys = images * classes + matches.labels
    true_keys = true_images * classes + matches.true_labels
    boxes = matches.boxes, matches.true_boxes
    near = best_overlaps(boxes[0], keys, boxes[1], true_keys, NEAR) >= 0
    on_any = best_overlaps(boxes[0], images, boxes[1], true_images, IOU) >= 0
    kinds = np.select([matches.matched >= 0, on_any, near], [0, 1, 2], default=3)
    return np.where(matches.outcomes == INVENTED, kinds, -1)


def count_mistakes(matches: Matches, classes: int, threshold: float) -> np.ndarray:
    """Return the number of invented detections of each class and kind, (classes, 4)."""
    kinds = kinds_of_mistakes(matches)
    chosen = (kinds >= 0) & (matches.scores >= threshold)
    cells = matches.labels[chosen] * len(KINDS) + kinds[chosen]
    counts = np.bincount(cells, minlength=classes * len(KINDS))
    return counts[: classes * len(KINDS)].reshape(classes, len(KINDS))
