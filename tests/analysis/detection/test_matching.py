from __future__ import annotations

import numpy as np
import pytest

from gluondense.analysis.detection.detections import Detections
from gluondense.analysis.detection.matching import IGNORED, INVENTED, RIGHT, box_iou, match

SIZE = np.array([[100, 100]])
NONE = np.full((1, 0, 6), -1.0)


def one_image(detections, truth) -> Detections:
    return Detections(np.array([detections], float), np.array([truth], float), SIZE)


def test_the_best_detection_of_a_true_box_is_right_and_the_others_are_invented():
    found = match(
        one_image(
            [[0, 0.9, 0, 0, 10, 8], [0, 0.8, 0, 0, 10, 10], [0, 0.7, 50, 50, 60, 60]],
            [[0, 0, 10, 10, 0, 0]],
        )
    )
    assert found.outcomes.tolist() == [RIGHT, INVENTED, INVENTED]
    assert found.matched.tolist() == [0, 0, -1]
    assert found.found().tolist() == [True]
    assert found.found(0.95).tolist() == [False]


def test_another_class_or_too_little_overlap_is_invented():
    found = match(
        one_image([[1, 0.9, 0, 0, 10, 10], [0, 0.8, 0, 0, 10, 4]], [[0, 0, 10, 10, 0, 0]])
    )
    assert found.outcomes.tolist() == [INVENTED, INVENTED]
    assert match(one_image([[0, 0.8, 0, 0, 10, 5]], [[0, 0, 10, 10, 0, 0]])).outcomes == [RIGHT]


def test_detections_of_a_difficult_box_are_ignored():
    found = match(
        one_image([[0, 0.9, 0, 0, 10, 10], [0, 0.8, 0, 0, 9, 10]], [[0, 0, 10, 10, 0, 1]])
    )
    assert found.outcomes.tolist() == [IGNORED, IGNORED]
    assert found.positives(1).tolist() == [0]


def test_a_box_belongs_to_the_true_box_that_it_overlaps_most():
    truth = [[0, 0, 10, 10, 0, 0], [2, 0, 12, 10, 0, 0]]
    assert match(one_image([[0, 0.9, 2, 0, 12, 10]], truth)).matched.tolist() == [1]
    # As far from both: the first.
    assert match(one_image([[0, 0.9, 1, 0, 11, 10]], truth)).matched.tolist() == [0]


def test_images_of_a_data_set_stay_apart_and_unreadable_ones_do_not_count():
    boxes = np.array([[[0, 0.5, 0, 0, 9, 9]], [[0, 0.9, 0, 0, 9, 9]], [[0, 0.8, 0, 0, 9, 9]]])
    truth = np.array([[[0, 0, 9, 9, 0, 0]], [[-1] * 6], [[0, 0, 9, 9, 0, 0]]], float)
    found = match(Detections(boxes, truth, np.array([[20, 20], [20, 20], [-1, -1]])))
    assert found.images.tolist() == [1, 0]
    assert found.outcomes.tolist() == [INVENTED, RIGHT]
    assert len(found.true_labels) == 1


@pytest.mark.parametrize("detections", [NONE, np.full((1, 4, 6), -1.0)])
@pytest.mark.parametrize("truth", [NONE, np.full((1, 3, 6), -1.0)])
def test_there_may_be_neither_detections_nor_true_boxes(detections, truth):
    found = match(Detections(detections, truth, SIZE))
    assert len(found.scores) == len(found.true_labels) == 0
    assert found.positives(2).tolist() == [0, 0]


def test_empty_and_inverted_boxes_overlap_nothing():
    boxes = np.array([[0, 0, 0, 5], [5, 5, 0, 0], [0, 0, 5, 5]], float)
    np.testing.assert_array_equal(box_iou(boxes[:, None], boxes), np.diag([0.0, 0.0, 1.0]))
