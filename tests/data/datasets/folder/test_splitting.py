from __future__ import annotations

import numpy as np
import pytest

from gluondense.data.datasets.folder.splitting import stratified_split


def shares(labels, chosen):
    return labels[chosen].sum(axis=0) / labels.sum(axis=0)


@pytest.mark.parametrize("count", [2, 3, 4, 5, 7, 20, 101])
@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.99])
def test_each_class_keeps_its_share_and_is_in_both_parts(count, share):
    labels = np.repeat([0, 1], [count, 3 * count])
    found = np.bincount(labels[stratified_split(labels, None, share, seed=1)], minlength=2)
    for number, total in zip(found, (count, 3 * count)):
        assert 1 <= number <= total - 1
        assert abs(number - share * total) <= 1


def test_the_seed_decides():
    labels = np.arange(60) % 3
    first = stratified_split(labels, None, 0.2, seed=0)
    assert (first == stratified_split(labels, None, 0.2, seed=0)).all()
    assert (first != stratified_split(labels, None, 0.2, seed=1)).any()
    # Written down, as a run must not be evaluated on the images that it was trained on.
    assert np.flatnonzero(first).tolist() == EXPECTED


EXPECTED = [3, 4, 17, 24, 34, 38, 41, 47, 52, 54, 55, 57]


@pytest.mark.parametrize("seed", range(5))
def test_no_group_is_divided_and_the_shares_stay(seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 60, 600)
    labels = rng.choice(4, 600, p=[0.5, 0.3, 0.15, 0.05])
    chosen = stratified_split(labels, groups.astype(str), 0.25, seed)
    assert not set(groups[chosen]) & set(groups[~chosen])
    rows = labels[:, None] == np.arange(4)
    assert np.abs(shares(rows, chosen) - 0.25).max() < 0.05


@pytest.mark.parametrize("sizes", [(2, 2), (10, 10), (10, 1), (5, 5, 5), (1, 1)])
def test_two_groups_of_a_class_are_on_both_sides(sizes):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    labels = np.zeros(len(groups), int)
    chosen = stratified_split(labels, groups, 0.2, seed=0)
    assert 0 < chosen.sum() < len(labels)
    assert not set(groups[chosen]) & set(groups[~chosen])


@pytest.mark.parametrize("grouped", [False, True])
def test_several_labels_keep_their_shares(grouped):
    rng = np.random.default_rng(3)
    labels = (rng.random((1000, 6)) < [0.5, 0.3, 0.1, 0.05, 0.02, 0.004]).astype(np.float32)
    labels[rng.random(labels.shape) < 0.1] = np.nan
    groups = rng.integers(0, 300, 1000) if grouped else None
    known = np.nan_to_num(labels)
    chosen = stratified_split(labels, groups, 0.2, seed=0)
    allowed = np.maximum(0.03, 1.5 / known.sum(axis=0))
    assert (np.abs(shares(known, chosen) - 0.2) <= allowed).all()
    none = ~known.any(axis=1)
    assert none[chosen].sum() / none.sum() == pytest.approx(0.2, abs=0.03)
    assert (known[chosen].sum(axis=0) > 0).all()
    if groups is not None:
        assert not set(groups[chosen]) & set(groups[~chosen])


def test_a_share_outside_of_its_range_is_refused():
    with pytest.raises(ValueError, match=r"validation_share \(=1\) must be in \(0, 1\)"):
        stratified_split(np.arange(4), None, 1, seed=0)
