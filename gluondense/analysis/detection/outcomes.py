# SPDX-License-Identifier: Apache-2.0
"""Right, missed and invented boxes at a score threshold, and recall by size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .matching import IGNORED, INVENTED, RIGHT, Matches, box_area

SMALL, LARGE = 32**2, 96**2  # areas in square pixels between COCO's three sizes
SIZES = ("small", "medium", "large")


@dataclass(frozen=True)
class Outcomes:
    """Number of boxes of each class at a threshold of the score, (classes,).

    Parameters
    ----------
    right, missed, invented
        True positives, false negatives and false positives: true boxes that were found and that
        were not, and detections of no true box or of one that has a better detection. Difficult
        boxes and their detections are not counted.
    """

    right: np.ndarray
    missed: np.ndarray
    invented: np.ndarray

    @property
    def precision(self) -> np.ndarray:
        """Share of the detections that are right, (classes,); NaN without detections."""
        with np.errstate(invalid="ignore"):
            return self.right / (self.right + self.invented)

    @property
    def recall(self) -> np.ndarray:
        """Share of the true boxes that were found, (classes,); NaN without true boxes."""
        with np.errstate(invalid="ignore"):
            return self.right / (self.right + self.missed)

    @property
    def total(self) -> Outcomes:
        """The sums over the classes, (1,)."""
        return Outcomes(*(counts.sum(keepdims=True) for counts in vars(self).values()))


def count_outcomes(matches: Matches, classes: int, threshold: float) -> Outcomes:
    """Count the right, missed and invented boxes of each class.

    Examples
    --------
    >>> from gluondense.analysis.detection.detections import Detections
    >>> from gluondense.analysis.detection.matching import match
    >>> truth = np.array([[[0, 0, 8, 8, 0, 0], [8, 8, 16, 16, 0, 0]]], np.float32)
    >>> boxes = np.array([[[0, 0.9, 0, 0, 8, 8], [0, 0.8, 0, 8, 4, 12], [0, 0.1, 8, 8, 16, 16]]])
    >>> found = count_outcomes(match(Detections(boxes, truth, np.array([[16, 16]]))), 1, 0.5)
    >>> [int(counts[0]) for counts in (found.right, found.missed, found.invented)]
    [1, 1, 1]
    """

    def count(outcome: int) -> np.ndarray:
        chosen = (matches.outcomes == outcome) & (matches.scores >= threshold)
        return np.bincount(matches.labels[chosen], minlength=classes)[:classes]

    right = count(RIGHT)
    return Outcomes(right, matches.positives(classes) - right, count(INVENTED))


def best_threshold(matches: Matches) -> float:
    """Return the score from which on the F1 score of all boxes is largest.

    It is halfway between the lowest such score and the next lower one; of equal F1 scores, the
    highest threshold is taken. Without a right detection it is 0.5.
    """
    counted = matches.outcomes != IGNORED
    scores, right = matches.scores[counted], np.cumsum(matches.outcomes[counted] == RIGHT)
    if not len(right) or not right[-1]:
        return 0.5
    ends = np.flatnonzero(np.append(scores[:-1] != scores[1:], True))
    f1 = 2 * right[ends] / (ends + 1 + np.count_nonzero(~matches.difficult))
    best = ends[f1.argmax()]
    below = scores[best + 1] if best + 1 < len(scores) else 0.0
    return float((scores[best] + below) / 2)


def size_of(boxes: np.ndarray) -> np.ndarray:
    """Return the size of each box (..., 4), an index of ``SIZES``.

    The limits are COCO's; its annotations measure the area of an object's mask, not of its box.

    Examples
    --------
    >>> size_of(np.array([[0, 0, 10, 10], [0, 0, 32, 32], [0, 0, 100, 100]])).tolist()
    [0, 1, 2]
    """
    return np.digitize(box_area(boxes), (SMALL, LARGE))


def count_by_size(
    matches: Matches, classes: int, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of true boxes and of those found, by class and size, (classes, 3).

    Difficult boxes are not counted.
    """
    counted = ~matches.difficult
    cells = matches.true_labels * len(SIZES) + size_of(matches.true_boxes)
    shape = classes, len(SIZES)

    def count(chosen: np.ndarray) -> np.ndarray:
        return np.bincount(cells[chosen], minlength=shape[0] * shape[1]).reshape(shape)

    return count(counted), count(counted & matches.found(threshold))
