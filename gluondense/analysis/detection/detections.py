# SPDX-License-Identifier: Apache-2.0
"""Detections and ground truth of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Detections:
    """The detections in each image of a data set, with the true boxes, in the image's pixels.

    Boxes are x1, y1, x2, y2, counted from 0; x2 and y2 are the ends, so that the width is x2 - x1.
    Rows without a box are -1.

    Parameters
    ----------
    detections
        Class index, score, x1, y1, x2, y2, by descending score, (N, K, 6).
    truth
        x1, y1, x2, y2, class index, difficult (0 or 1), (N, M, 6).
    placements
        Width and height of each image in pixels, the scale of both axes, and the offset of both,
        with which its pixels become those of the network's input: input = original * scale +
        offset, (N, 6). Unreadable images have -1 and are excluded from every metric.

    Examples
    --------
    >>> truth = np.array([[[0, 0, 8, 8, 2, 0], [-1] * 6]], np.float32)
    >>> boxes, placements = np.array([[[2, 0.9, 0, 0, 8, 4]]]), np.array([[32, 16, 0.5, 0.5, 0, 4]])
    >>> found = Detections(boxes, truth, placements)
    >>> found.readable.tolist(), found.sizes.tolist(), found.classes
    ([True], [[32.0, 16.0]], 3)
    """

    detections: np.ndarray
    truth: np.ndarray
    placements: np.ndarray

    @classmethod
    def concatenate(cls, parts: Sequence[Detections]) -> Detections:
        """Concatenate the detections in consecutive parts of a data set."""
        columns = zip(*(part.arrays for part in parts))
        return cls(*(np.concatenate(column) for column in columns))

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """All fields in the order of the constructor."""
        return self.detections, self.truth, self.placements

    @property
    def readable(self) -> np.ndarray:
        """Mask of the images that could be decoded, (N,)."""
        return self.placements[:, 0] > 0

    @property
    def sizes(self) -> np.ndarray:
        """Width and height of each image in pixels, (N, 2)."""
        return self.placements[:, :2]

    @property
    def classes(self) -> int:
        """The largest class index that occurs, plus 1."""
        labels = (self.detections[..., 0], self.truth[..., 4])
        return 1 + int(max((array.max() for array in labels if array.size), default=-1))
