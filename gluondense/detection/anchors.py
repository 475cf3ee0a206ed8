# SPDX-License-Identifier: Apache-2.0
"""Anchors for the boxes of a data set."""

from __future__ import annotations

import numpy as np

from ..errors import check
from .spec import ANCHORS_PER_SCALE, STRIDES, Pairs

_RESTARTS, _ROUNDS = 10, 100


def find_anchors(sizes: np.ndarray, seed: int = 0) -> Pairs:
    """Return nine anchors by k-means with the distance 1 - IoU, smallest area first.

    Of several starts, the result with the largest mean IoU of the boxes and their anchors is taken.
    It is a function of the arguments.

    Parameters
    ----------
    sizes
        Width and height of the boxes in pixels of the input, (B, 2).
    seed
        Seed of the starts.

    Raises
    ------
    ValueError
        If there are fewer boxes than anchors.

    References
    ----------
    Redmon and Farhadi, "YOLO9000", section 2, "Dimension Clusters".

    Examples
    --------
    >>> sizes = np.repeat([(8 * n, 8 * n) for n in range(1, 10)], 5, axis=0)
    >>> find_anchors(sizes)[:2]
    ((8.0, 8.0), (16.0, 16.0))
    """
    count = ANCHORS_PER_SCALE * len(STRIDES)
    rule = f"at least {count}, one for each anchor"
    check("number of boxes", len(sizes), rule, len(sizes) >= count)
    sizes = np.asarray(sizes, np.float64)
    rng = np.random.default_rng(seed)
    found = [_cluster(sizes, _start(sizes, count, rng)) for _ in range(_RESTARTS)]
    best = max(found, key=lambda anchors: mean_iou(sizes, anchors))
    ordered = best[np.argsort(best.prod(axis=1), kind="stable")]
    return tuple((max(width, 1.0), max(height, 1.0)) for width, height in ordered.round(1).tolist())


def mean_iou(sizes: np.ndarray, anchors: np.ndarray) -> float:
    """Return the mean IoU of boxes (B, 2) with the anchor (K, 2) that fits each best."""
    return float(_ious(sizes, np.asarray(anchors)).max(axis=1).mean())


def _ious(sizes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Return the IoU of boxes and anchors around the same center, (B, K)."""
    shared = np.minimum(sizes[:, None], anchors[None]).prod(axis=2)
    return shared / (sizes.prod(axis=1)[:, None] + anchors.prod(axis=1)[None] - shared)


def _start(sizes: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw boxes as the first anchors, those far from the others more often (k-means++)."""
    chosen = sizes[[rng.integers(len(sizes))]]
    while len(chosen) < count:
        far = (1 - _ious(sizes, chosen).max(axis=1)).clip(0) ** 2
        total = far.sum()
        index = rng.choice(len(sizes), p=far / total if total > 0 else None)
        chosen = np.concatenate([chosen, sizes[[index]]])
    return chosen


def _cluster(sizes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Move each anchor to the mean of its boxes until they keep their anchors."""
    before = np.full(len(sizes), -1)
    for _ in range(_ROUNDS):
        nearest = _ious(sizes, anchors).argmax(axis=1)
        if (nearest == before).all():
            break
        before = nearest
        for index in np.unique(nearest):
            anchors[index] = sizes[nearest == index].mean(axis=0)
    return anchors
