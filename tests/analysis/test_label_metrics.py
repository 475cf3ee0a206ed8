# SPDX-License-Identifier: Apache-2.0
"""AUROC, average precision, intervals and thresholds of several labels, against scikit-learn."""

from __future__ import annotations

import time

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from gluondense.analysis import bootstrap as bs
from gluondense.analysis import label_metrics as lm
from gluondense.deploy.quantization.metrics import QuantizationMetrics


def sample(images: int, labels: int, ties: bool, seed: int = 0):
    rng = np.random.default_rng(seed)
    true = (rng.random((images, labels)) < 0.3).astype(np.float32)
    scores = (0.3 * true + rng.random((images, labels))).astype(np.float32) / 1.3
    true[rng.random(true.shape) < 0.1] = np.nan
    return true, np.round(scores, 1) if ties else scores


@pytest.mark.parametrize("ties", [False, True])
def test_replicates_equal_scikit_learn_with_the_same_weights(ties):
    labels, scores = sample(60, 2, ties)
    weights = np.random.default_rng(1).integers(0, 4, (5, 60)).astype(np.float32)
    for label in range(2):
        known = ~np.isnan(labels[:, label])
        found = bs._weighted_metrics(weights, bs._rank(labels[:, label], scores[:, label]))
        for row in range(5):
            args = labels[known, label], scores[known, label]
            options = {"sample_weight": weights[row, known]}
            assert found[0][row] == pytest.approx(roc_auc_score(*args, **options), abs=1e-12)
            precision = average_precision_score(*args, **options)
            assert found[1][row] == pytest.approx(precision, abs=1e-12)


def test_a_label_with_one_value_has_no_metrics_and_is_left_out_of_the_means():
    labels, scores = sample(50, 3, False)
    labels[:, 1] = np.where(labels[:, 1] > 0, np.nan, labels[:, 1])
    found = lm.label_metrics(labels, scores)
    assert np.isnan(found.auroc).tolist() == [False, True, False]
    assert found.mean_auroc == pytest.approx(found.auroc[[0, 2]].mean())
    assert found.positives[1] == 0
    assert found.negatives[1] > 0
    intervals = bs.bootstrap(labels, scores, replicates=50)
    assert np.isnan(intervals.auroc[1]).all()
    assert np.isfinite(intervals.auroc[[0, 2]]).all()
    assert np.isfinite(intervals.mean_auroc).all()
    assert lm.choose_thresholds(labels, scores)[1] == lm.DEFAULT_THRESHOLD


def test_no_label_with_both_values_has_no_mean():
    found = lm.label_metrics(np.ones((4, 2)), np.ones((4, 2)))
    assert np.isnan(found.mean_auroc)
    assert np.isnan(found.mean_average_precision)
    assert np.isnan(bs.bootstrap(np.ones((4, 2)), np.ones((4, 2)), replicates=5).mean_auroc).all()


def test_a_label_of_few_groups_has_no_interval_but_counts_for_the_mean():
    labels, scores = sample(80, 2, False)
    labels = np.nan_to_num(labels)
    labels[:, 1] = 0
    labels[:8, 1] = 1
    groups = np.arange(80) // 2
    assert np.isfinite(bs.bootstrap(labels, scores, replicates=50).auroc).all()
    found = bs.bootstrap(labels, scores, groups, replicates=50)
    assert np.isnan(found.auroc).tolist() == [[False, False], [True, True]]
    assert np.isnan(found.average_precision[1]).all()
    alone = bs.bootstrap(labels[:, :1], scores[:, :1], groups, replicates=50)
    assert not np.array_equal(found.mean_auroc, alone.mean_auroc)


def test_intervals_are_seeded_and_contain_the_estimate():
    labels, scores = sample(200, 2, False)
    first, second = (bs.bootstrap(labels, scores, replicates=300) for _ in range(2))
    assert np.array_equal(first.auroc, second.auroc)
    assert not np.array_equal(first.auroc, bs.bootstrap(labels, scores, None, 300, seed=1).auroc)
    point = lm.label_metrics(labels, scores)
    assert (first.auroc[:, 0] < point.auroc).all()
    assert (point.auroc < first.auroc[:, 1]).all()
    assert first.mean_auroc[0] < point.mean_auroc < first.mean_auroc[1]


def test_the_bootstrap_agrees_with_one_that_is_written_as_a_loop():
    labels, scores = sample(120, 1, False)
    labels = np.nan_to_num(labels)
    rng, loop = np.random.default_rng(5), []
    for _ in range(600):
        chosen = rng.integers(0, len(labels), len(labels))
        loop.append(roc_auc_score(labels[chosen, 0], scores[chosen, 0]))
    found = bs.bootstrap(labels, scores, replicates=600)
    assert found.auroc[0] == pytest.approx(np.quantile(loop, (0.025, 0.975)), abs=0.015)


def test_groups_of_equal_images_widen_the_intervals():
    labels, scores = sample(60, 1, False)
    labels, scores = np.repeat(labels, 4, axis=0), np.repeat(scores, 4, axis=0)
    groups = np.repeat([f"patient {index}" for index in range(60)], 4)
    single = bs.bootstrap(labels, scores, replicates=400)
    grouped = bs.bootstrap(labels, scores, groups, replicates=400)
    assert (single.unit, grouped.unit) == ("image", "group")
    widths = [np.diff(found.auroc[0])[0] for found in (single, grouped)]
    assert widths[1] == pytest.approx(2 * widths[0], rel=0.25)  # the square root of 4 copies


def test_thresholds_give_the_largest_f1_of_all_thresholds():
    labels, scores = sample(80, 3, True)
    chosen = lm.choose_thresholds(labels, scores)
    for label in range(3):
        known = ~np.isnan(labels[:, label])
        true, score = labels[known, label], scores[known, label]
        best = max(f1_score(true, score >= value) for value in np.unique(score))
        assert f1_score(true, score >= chosen[label]) == pytest.approx(best)
        assert np.abs(score - chosen[label]).min() > 0.01  # rounding does not change an answer


def test_many_images_get_fewer_replicates_in_seconds():
    labels, scores = sample(20_000, 14, False)
    began = time.process_time()
    assert bs.bootstrap(labels, scores, np.arange(20_000) // 2, replicates=20).replicates == 20
    assert time.process_time() - began < 10
    assert bs.bootstrap(labels[:100], scores[:100]).replicates == bs.REPLICATES


def test_int8_metrics_count_changed_answers_of_each_label():
    expected = [np.array([[1.0, -2.0], [0.2, 3.0]])]
    outputs = [np.array([[1.1, -1.0], [-0.1, 2.0]])]
    found = QuantizationMetrics.compare(outputs, expected, (0.0, 2.5))
    assert found.agreement == 0.5
    assert QuantizationMetrics.compare(outputs, expected).agreement == 1
