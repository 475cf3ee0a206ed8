# SPDX-License-Identifier: Apache-2.0
"""Bootstrap intervals of AUROC and average precision of several labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np

from .label_metrics import measurable, row_means

REPLICATES = 1000
MIN_REPLICATES = 200
COVERAGE = 0.95
MIN_UNITS = 5  # images or groups with a value; fewer vary too little for an interval
_CHUNK = 2_000_000  # weights of the replicates that are in memory at once
_WORK = 300_000_000  # weights of all replicates and labels; more images get fewer replicates


@dataclass(frozen=True)
class Intervals:
    """Percentile intervals of the bootstrap, low and high.

    Parameters
    ----------
    auroc, average_precision
        Intervals of each label, (L, 2); NaN for a label that has fewer than 5 images, or groups,
        with or without it, which would give an interval that is too narrow.
    mean_auroc, mean_average_precision
        Intervals of the means, (2,).
    replicates
        Number of replicates.
    unit
        What was drawn: ``"image"`` or ``"group"``.
    """

    auroc: np.ndarray
    average_precision: np.ndarray
    mean_auroc: np.ndarray
    mean_average_precision: np.ndarray
    replicates: int
    unit: str


def bootstrap(
    labels: np.ndarray,
    scores: np.ndarray,
    groups: Optional[np.ndarray] = None,
    replicates: Optional[int] = None,
    seed: int = 0,
) -> Intervals:
    """Estimate 95 % intervals by drawing images, or whole groups, with replacement.

    Parameters
    ----------
    labels, scores
        (N, L).
    groups
        Group of each image, such as the patient, (N,). Images of one group resemble each other, so
        intervals that draw single images would be too narrow.
    replicates
        Number of draws; by default 1000, and down to 200 for many images.
    seed
        Seed of the draws.

    Notes
    -----
    All labels share a draw. A draw in which a label has only one value is left out for this label;
    the mean of a draw is over the labels that have both values in it.
    """
    if groups is None:
        unit, members = "image", np.arange(len(labels))
    else:
        unit, members = "group", np.unique(groups, return_inverse=True)[1]
    if replicates is None:
        affordable = _WORK // max(labels.size, 1)
        replicates = int(np.clip(affordable, MIN_REPLICATES, REPLICATES))
    ranked = {label: _rank(labels[:, label], scores[:, label]) for label in measurable(labels)}
    rng, units = np.random.default_rng(seed), int(members.max()) + 1
    draws = np.full((2, replicates, labels.shape[1]), np.nan)
    step = max(1, _CHUNK // len(labels))
    for start in range(0, replicates, step):
        rows = min(step, replicates - start)
        drawn = rng.integers(0, units, (rows, units)) + np.arange(rows)[:, None] * units
        counts = np.bincount(drawn.ravel(), minlength=rows * units).reshape(rows, units)
        weights = counts.astype(np.float32)[:, members]
        for label, order in ranked.items():
            draws[:, start : start + rows, label] = _weighted_metrics(weights, order)
    auroc, precision = draws
    few = _units(labels, members) < MIN_UNITS
    return Intervals(
        np.where(few[:, None], np.nan, percentile_interval(auroc)),
        np.where(few[:, None], np.nan, percentile_interval(precision)),
        percentile_interval(row_means(auroc)[:, None])[0],
        percentile_interval(row_means(precision)[:, None])[0],
        replicates,
        unit,
    )


def describe_intervals(intervals: Intervals) -> str:
    """Say in a sentence what the intervals are."""
    drawn = "whole groups" if intervals.unit == "group" else "images"
    return (
        f"Intervals are 95 % percentile intervals of {intervals.replicates:,} bootstrap "
        f"replicates that draw {drawn}; a label that fewer than {MIN_UNITS} {intervals.unit}s "
        "have, or lack, has none."
    )


def _units(labels: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return for each label the number of units of its rarer value, (L,)."""
    counts = [[len(np.unique(members[column == value])) for column in labels.T] for value in (0, 1)]
    return np.min(counts, axis=0)


def percentile_interval(draws: np.ndarray) -> np.ndarray:
    """Return low and high of each column (L, 2), NaN for a column without draws."""
    found = np.full((draws.shape[1], 2), np.nan)
    tail = (1 - COVERAGE) / 2
    for column, values in enumerate(draws.T):
        known = values[~np.isnan(values)]
        if len(known):
            found[column] = np.quantile(known, (tail, 1 - tail))
    return found


@dataclass(frozen=True)
class _Ranking:
    """The known images of a label by descending score.

    For each positive image, ``above`` and ``within`` count the images with a higher score and with
    at least its score; ``above_positives`` and ``within_positives`` count the positive ones.
    """

    images: np.ndarray
    positives: np.ndarray
    above: np.ndarray
    within: np.ndarray
    above_positives: np.ndarray
    within_positives: np.ndarray


def _rank(labels: np.ndarray, scores: np.ndarray) -> _Ranking:
    images = np.flatnonzero(~np.isnan(labels))
    images = images[np.argsort(-scores[images], kind="stable")]
    ranked = -scores[images]
    chosen = labels[images] > 0
    above = np.searchsorted(ranked, ranked[chosen], "left")
    within = np.searchsorted(ranked, ranked[chosen], "right")
    counts = np.append(0, np.cumsum(chosen))
    return _Ranking(images, images[chosen], above, within, counts[above], counts[within])


def _weighted_metrics(weights: np.ndarray, ranking: _Ranking) -> tuple[np.ndarray, np.ndarray]:
    """Return AUROC and average precision for each row of weights of the images, (rows, N)."""
    images = cumulative(weights[:, ranking.images])
    own = weights[:, ranking.positives].astype(np.float64)
    positives = cumulative(own)
    above = images[:, ranking.above] - positives[:, ranking.above_positives]
    hits = positives[:, ranking.within_positives]
    within = images[:, ranking.within]
    total = positives[:, -1]
    negatives = images[:, -1] - total
    with np.errstate(invalid="ignore", divide="ignore"):
        # The negative images below each positive one, and half of those with the same score.
        below = negatives[:, None] - (above + within - hits) / 2
        auroc = (own * below).sum(axis=1) / (total * negatives)
        precision = (own * hits / np.maximum(within, 1)).sum(axis=1) / total
    one_value = (total == 0) | (negatives == 0)
    return np.where(one_value, np.nan, auroc), np.where(one_value, np.nan, precision)


def cumulative(weights: np.ndarray) -> np.ndarray:
    """Return the sums of the first 0, 1, ... columns; counts stay exact."""
    sums = np.zeros((len(weights), weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums
