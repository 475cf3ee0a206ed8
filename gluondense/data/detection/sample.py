# SPDX-License-Identifier: Apache-2.0
"""An image and its labels in memory, and what every transform does with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..boxes import clip_boxes

COLUMNS = 6  # of a label: x1, y1, x2, y2, class, weight
# A label stays in a crop with this share of its area and this many pixels of each side: less of an
# object can hardly be recognized.
VISIBLE_AREA, VISIBLE_SIDE = 0.2, 2.0


@dataclass(frozen=True)
class Sample:
    """An image, uint8 (H, W, 3), and its labels, float32 (M, 6): x1, y1, x2, y2, class, weight."""

    pixels: np.ndarray
    labels: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]


def labels_of(boxes: np.ndarray) -> np.ndarray:
    """Return the labels of boxes (M, 6) of ground truth, each of weight 1.

    Difficult boxes are learned too, as in GluonCV.
    """
    labels = boxes.copy()
    labels[:, 5] = 1
    return labels


def moved(labels: np.ndarray, scale: tuple[float, float], shift: tuple[float, float]) -> np.ndarray:
    """Return labels with x and y multiplied by ``scale`` (x, y) and then moved by ``shift``.

    Examples
    --------
    >>> moved(np.array([[1, 2, 3, 4, 0, 1]], np.float32), (2, 1), (10, 0)).tolist()
    [[12.0, 2.0, 16.0, 4.0, 0.0, 1.0]]
    """
    result = labels.copy()
    result[:, :4] = labels[:, :4] * np.array(scale * 2) + np.array(shift * 2)
    return result


def visible(labels: np.ndarray, corners: tuple[int, int, int, int]) -> np.ndarray:
    """Clip labels to the rectangle x1, y1, x2, y2; leave out those of which hardly any is left.

    Examples
    --------
    >>> labels = np.array([[-5, 0, 5, 10, 0, 1], [-95, 0, 5, 10, 0, 1]], np.float32)
    >>> visible(labels, (0, 0, 20, 20)).tolist()
    [[0.0, 0.0, 5.0, 10.0, 0.0, 1.0]]
    """
    x1, y1, x2, y2 = corners
    origin = np.array([x1, y1] * 2)
    clipped = labels.copy()
    clipped[:, :4] = clip_boxes(labels[:, :4] - origin, (y2 - y1, x2 - x1)) + origin
    sides, clipped_sides = (rows[:, 2:4] - rows[:, :2] for rows in (labels, clipped))
    enough = clipped_sides.prod(axis=1) >= VISIBLE_AREA * sides.prod(axis=1)
    enough &= clipped_sides.min(axis=1) >= np.minimum(sides.min(axis=1), VISIBLE_SIDE)
    return clipped[enough & (clipped_sides > 0).all(axis=1)]
