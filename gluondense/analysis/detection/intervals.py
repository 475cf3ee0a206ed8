# SPDX-License-Identifier: Apache-2.0
"""Bootstrap intervals of average precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np

from ..bootstrap import MIN_REPLICATES, MIN_UNITS, REPLICATES, cumulative, percentile_interval
from ..label_metrics import row_means
from .matching import IGNORED, RIGHT, Matches

_CHUNK = 2_000_000  # weights of the replicates that are in memory at once
_WORK = 300_000_000  # weights of all replicates and detections; more get fewer replicates


@dataclass(frozen=True)
class Intervals:
    """95 % percentile intervals of the bootstrap, low and high.

    Parameters
    ----------
    average_precision
        Intervals of each class, (classes, 2); NaN for a class in fewer than 5 images.
    mean_average_precision
        Interval of the mean over the classes, (2,).
    replicates
        Number of replicates.
    """

    average_precision: np.ndarray
    mean_average_precision: np.ndarray
    replicates: int

    def describe(self) -> str:
        """Say in a sentence what the intervals are."""
        return (
            f"Intervals are 95 % percentile intervals of {self.replicates:,} bootstrap replicates "
            f"that draw images; a class in fewer than {MIN_UNITS} images has none."
        )


def bootstrap(
    matches: Matches, images: np.ndarray, classes: int, replicates: Optional[int] = None
) -> Intervals:
    """Estimate intervals of the area under the precision-recall curves by drawing images.

    ``images`` are the indices of the readable images. All classes share a draw; the mean of a draw
    is over the classes with true boxes in it. There are 1000 replicates by default, and down to 200
    for many detections.
    """
    if replicates is None:
        affordable = _WORK // max(len(matches.scores), len(images), 1)
        replicates = int(np.clip(affordable, MIN_REPLICATES, REPLICATES))
    rankings = [_rank(matches, images, label) for label in range(classes)]
    draws = np.full((replicates, classes), np.nan)
    rng, count = np.random.default_rng(0), len(images)
    step = max(1, _CHUNK // max(len(matches.scores), count, 1))
    for start in range(0, replicates if count else 0, step):
        rows = min(step, replicates - start)
        drawn = rng.integers(0, count, (rows, count)) + np.arange(rows)[:, None] * count
        weights = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        for label, ranking in enumerate(rankings):
            draws[start : start + rows, label] = ranking.weighted_ap(weights)
    few = [np.count_nonzero(ranking.truths) < MIN_UNITS for ranking in rankings]
    return Intervals(
        np.where(np.array(few, bool)[:, None], np.nan, percentile_interval(draws)),
        percentile_interval(row_means(draws)[:, None])[0],
        replicates,
    )


@dataclass(frozen=True)
class _Ranking:
    """The detections of a class by descending score, and its true boxes.

    ``images`` and ``right`` are of the detections up to the last right one; ``truths`` is the
    number of true boxes of each image. Images are counted among the readable ones.
    """

    images: np.ndarray
    right: np.ndarray
    truths: np.ndarray

    def weighted_ap(self, weights: np.ndarray) -> np.ndarray:
        """Return the average precision for each row of weights of the images, (rows,)."""
        positives = weights @ self.truths
        own = weights[:, self.images[self.right]]
        hits = np.cumsum(own, axis=1)
        detections = cumulative(weights[:, self.images])[:, self.right + 1]
        precision = hits / np.maximum(detections, 1)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        with np.errstate(invalid="ignore"):
            return (own * envelope).sum(axis=1) / positives


def _rank(matches: Matches, images: np.ndarray, label: int) -> _Ranking:
    chosen = (matches.labels == label) & (matches.outcomes != IGNORED)
    right = np.flatnonzero(matches.outcomes[chosen] == RIGHT)
    count = right[-1] + 1 if len(right) else 0  # later ones change nothing
    counted = (matches.true_labels == label) & ~matches.difficult
    truths = np.searchsorted(images, matches.true_images[counted])
    found = np.searchsorted(images, matches.images[chosen][:count])
    return _Ranking(found, right, np.bincount(truths, minlength=len(images)))
