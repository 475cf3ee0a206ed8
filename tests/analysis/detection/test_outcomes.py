from __future__ import annotations

import numpy as np
import pytest
from support.detections import random_detections

from gluondense.analysis.detection.detections import Detections
from gluondense.analysis.detection.matching import match
from gluondense.analysis.detection.outcomes import (
    best_threshold,
    count_by_size,
    count_outcomes,
)


def example() -> Detections:
    truth = [[0, 0, 20, 20, 0, 0], [40, 0, 90, 50, 0, 0], [0, 100, 150, 220, 1, 0], [-1] * 6]
    boxes = [
        [0, 0.9, 0, 0, 20, 20],
        [0, 0.8, 0, 0, 19, 20],  # again
        [0, 0.6, 200, 0, 220, 20],  # nothing there
        [1, 0.5, 0, 100, 150, 220],
    ]
    return Detections(np.array([boxes]), np.array([truth], float), np.array([[300, 300]]))


def test_right_missed_and_invented_boxes_are_counted_from_a_threshold_on():
    matches = match(example())
    low, high = count_outcomes(matches, 3, 0.1), count_outcomes(matches, 3, 0.85)
    assert [array.tolist() for array in vars(low).values()] == [[1, 1, 0], [1, 0, 0], [2, 0, 0]]
    assert [array.tolist() for array in vars(high).values()] == [[1, 0, 0], [1, 1, 0], [0, 0, 0]]
    np.testing.assert_allclose(low.precision, [1 / 3, 1, np.nan])
    np.testing.assert_allclose(low.recall, [1 / 2, 1, np.nan])
    assert low.total.right.tolist() == [2]


def test_recall_by_size_counts_true_boxes_by_their_area():
    truths, found = count_by_size(match(example()), 2, 0.1)
    assert truths.tolist() == [[1, 1, 0], [0, 0, 1]]
    assert found.tolist() == [[1, 0, 0], [0, 0, 1]]
    assert count_by_size(match(example()), 2, 0.7)[1].sum() == 1


@pytest.mark.parametrize("seed", range(5))
def test_no_other_threshold_has_a_larger_f1_score(seed):
    matches = match(random_detections(seed, scores=20))
    best = best_threshold(matches)

    def f1(threshold: float) -> float:
        total = count_outcomes(matches, 3, threshold).total
        return float(2 * total.right / (2 * total.right + total.missed + total.invented))

    assert f1(best) >= max(map(f1, np.linspace(0, 1, 200))) > 0.1
    assert best not in matches.scores


def test_without_a_right_detection_the_threshold_is_a_half():
    empty = Detections(-np.ones((1, 3, 6)), -np.ones((1, 2, 6)), np.array([[9, 9]]))
    assert best_threshold(match(empty)) == 0.5
