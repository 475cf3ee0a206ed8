from __future__ import annotations

import numpy as np
import pytest

from gluondense.detection.anchors import find_anchors, mean_iou
from gluondense.detection.spec import COCO_ANCHORS, DetectorSpec


def boxes(seed=0):
    """Boxes around nine sizes."""
    rng = np.random.default_rng(seed)
    sizes = np.repeat(COCO_ANCHORS, 40, axis=0) * np.exp(rng.normal(0, 0.05, (360, 2)))
    return rng.permutation(sizes)


def test_clusters_are_found():
    found = np.array(find_anchors(boxes()))
    true = np.array(sorted(COCO_ANCHORS, key=np.prod), float)
    np.testing.assert_allclose(found, true, rtol=0.05)
    assert mean_iou(boxes(), found) > 0.9


def test_anchors_are_repeatable_and_valid():
    found = find_anchors(boxes(), seed=3)
    assert found == find_anchors(boxes(), seed=3)
    assert DetectorSpec(anchors=found).anchors == found
    assert (np.diff(np.prod(found, axis=1)) >= 0).all()


def test_random_boxes_get_better_anchors_than_those_of_coco():
    sizes = np.random.default_rng(1).uniform(5, 60, (500, 2))
    assert mean_iou(sizes, find_anchors(sizes)) > mean_iou(sizes, COCO_ANCHORS) + 0.1


def test_equal_boxes_are_no_error():
    assert set(find_anchors(np.full((20, 2), 7.0))) == {(7.0, 7.0)}


def test_too_few_boxes_are_refused():
    with pytest.raises(ValueError, match=r"number of boxes \(=8\) must be at least 9"):
        find_anchors(np.ones((8, 2)))
