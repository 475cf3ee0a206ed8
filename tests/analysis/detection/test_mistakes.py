from __future__ import annotations

import numpy as np
import pytest
from support.detections import random_detections

from gluondense.analysis.detection.detections import Detections
from gluondense.analysis.detection.matching import INVENTED, box_iou, match
from gluondense.analysis.detection.mistakes import KINDS, count_mistakes, kinds_of_mistakes
from gluondense.analysis.detection.outcomes import count_outcomes


@pytest.mark.parametrize("seed", range(4))
def test_kinds_follow_their_definitions(seed):
    matches = match(random_detections(seed, images=20))
    kinds = kinds_of_mistakes(matches)
    assert set(kinds) == {-1, 0, 1, 2, 3}
    for at, kind in enumerate(kinds):
        if matches.outcomes[at] != INVENTED:
            assert kind == -1
            continue
        own = matches.true_images == matches.images[at]
        same = matches.true_labels[own] == matches.labels[at]
        overlaps = box_iou(matches.boxes[at], matches.true_boxes[own])
        if (overlaps[same] >= 0.5).any():
            expected = "duplicate"
        elif (overlaps >= 0.5).any():
            expected = "other class"
        else:
            expected = "inexact" if (overlaps[same] >= 0.1).any() else "background"
        assert list(KINDS)[kind] == expected


def test_the_kinds_add_up_to_the_invented_detections():
    matches = match(random_detections(5, images=30))
    for threshold in (0, 0.4):
        counts = count_mistakes(matches, 4, threshold)
        invented = count_outcomes(matches, 4, threshold).invented
        np.testing.assert_array_equal(counts.sum(axis=1), invented)


def test_there_may_be_no_boxes():
    none = Detections(-np.ones((2, 3, 6)), -np.ones((2, 1, 6)), np.full((2, 2), 50))
    assert count_mistakes(match(none), 2, 0.5).tolist() == [[0] * 4] * 2
