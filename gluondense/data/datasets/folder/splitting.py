# SPDX-License-Identifier: Apache-2.0
"""Split images into training and validation: stratified, seeded, and by group.

References
----------
Sechidis, Tsoumakas, Vlahavas: "On the Stratification of Multi-Label Data", ECML PKDD 2011,
Algorithm 1. Deviations: whole groups are assigned instead of images, large ones first; each side
gets each label if two groups have it; and then groups change sides while that brings the shares of
the labels nearer to the wanted one.
"""

from __future__ import annotations

import numpy as np

from ....errors import check_range

_TRAIN, _VALIDATION = 0, 1
_PASSES = 20  # over all groups
_TOLERANCE = 1e-12  # a smaller improvement is rounding


def stratified_split(
    labels: np.ndarray, groups: np.ndarray | None, share: float, seed: int
) -> np.ndarray:
    """Choose the validation images, bool (N,), such that all labels keep their shares.

    Each class or label that two images, or groups, have gets into both parts.

    Parameters
    ----------
    labels
        Class of each image, integers (N,); or several labels, (N, labels), 1 where it has it.
    groups
        Group of each image, (N,), which is never divided; None: each image is a group.
    share
        Wanted share of validation images, in (0, 1).
    seed
        Seed of the random order. The result is a function of all arguments.

    Examples
    --------
    >>> labels = np.repeat([0, 1], [20, 10])
    >>> chosen = stratified_split(labels, None, 0.2, seed=0)
    >>> np.bincount(labels[chosen]).tolist()
    [4, 2]
    """
    check_range("validation_share", share, 0, 1, closed="neither")
    # RandomState's streams never change; those of Generator may change with the NumPy version.
    rng = np.random.RandomState(seed)
    if labels.ndim == 1 and groups is None:
        return _split_classes(labels, share, rng)
    members = np.arange(len(labels))
    if groups is not None:
        _, members = np.unique(groups, return_inverse=True)
    counts, sizes = _count(labels, members), np.bincount(members)
    chosen = _assign(counts, sizes, share, rng)
    return _refine(chosen, np.column_stack([counts, sizes]), share, rng)[members]


def _split_classes(labels: np.ndarray, share: float, rng: np.random.RandomState) -> np.ndarray:
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        images = rng.permutation(np.flatnonzero(labels == label))
        chosen[images[: min(max(round(share * len(images)), 1), len(images) - 1)]] = True
    return chosen


def _count(labels: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return how many images of each group have each label, (groups, labels)."""
    counts: np.ndarray
    if labels.ndim == 1:
        counts = np.zeros((members.max() + 1, labels.max() + 1), np.int64)
        np.add.at(counts, (members, labels), 1)
        return counts
    # The images without any label are one more label, so that they are divided as well.
    presence = labels == 1
    presence = np.column_stack([presence, ~presence.any(axis=1)])
    counts = np.zeros((members.max() + 1, presence.shape[1]), np.int64)
    np.add.at(counts, members, presence)
    return counts


def _assign(
    counts: np.ndarray, sizes: np.ndarray, share: float, rng: np.random.RandomState
) -> np.ndarray:
    """Choose groups for validation, bool (G,).

    ``counts`` are the images of each label in each group, (G, labels); ``sizes`` all images, (G,).
    """
    order = rng.permutation(len(counts))
    order = order[np.argsort(-sizes[order], kind="stable")]
    has = counts > 0
    left = has.sum(axis=0)  # groups of each label that are not assigned yet
    totals = counts.sum(axis=0)
    validation = np.where(left > 1, np.maximum(totals * share, 1), totals * share)
    wanted = np.stack([totals - validation, validation])  # images of each label on each side
    room = np.array([1 - share, share]) * sizes.sum()
    present = np.zeros(wanted.shape, bool)
    side = np.full(len(counts), -1)
    while (left > 0).any():
        label = int(np.argmin(np.where(left > 0, left, len(counts) + 1)))  # the rarest
        for group in order[(side[order] < 0) & has[order, label]]:
            lacking = np.flatnonzero(~present[:, label])
            if left[label] <= len(lacking):  # the last groups that can bring the label there
                chosen = int(lacking[0])
            else:
                chosen = max((_TRAIN, _VALIDATION), key=lambda i: (wanted[i, label], room[i]))
            side[group] = chosen
            wanted[chosen] -= counts[group]
            room[chosen] -= sizes[group]
            present[chosen] |= has[group]
            left -= has[group]
    return side == _VALIDATION


def _refine(
    chosen: np.ndarray, counts: np.ndarray, share: float, rng: np.random.RandomState
) -> np.ndarray:
    """Move single groups while the squared deviations of all shares decrease, bool (G,).

    ``counts`` are the images of each label, and all images, of each group: (G, labels + 1).
    """
    chosen, has = chosen.copy(), counts > 0
    shares = counts / np.maximum(counts.sum(axis=0), 1)
    deviation = shares[chosen].sum(axis=0) - share
    groups = np.stack([has[~chosen].sum(axis=0), has[chosen].sum(axis=0)])  # of each side
    for _ in range(_PASSES):
        moved = 0
        for group in rng.permutation(len(chosen)):
            side = int(chosen[group])
            new = deviation + (1 - 2 * side) * shares[group]
            is_last = (groups[side] == 1) & has[group]
            if not is_last.any() and (new**2).sum() < (deviation**2).sum() - _TOLERANCE:
                groups[side] -= has[group]
                groups[1 - side] += has[group]
                chosen[group], deviation = not side, new
                moved += 1
        if not moved:
            break
    return chosen
