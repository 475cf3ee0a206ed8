from __future__ import annotations

import numpy as np
from support.detections import random_detections

from gluondense.analysis.detection.average_precision import average_precisions
from gluondense.analysis.detection.detections import Detections
from gluondense.analysis.detection.intervals import _rank, bootstrap
from gluondense.analysis.detection.matching import match

CLASSES = 3


def test_a_drawn_image_counts_as_often_as_it_is_drawn():
    drawn = random_detections(1, images=30)
    matches, readable = match(drawn), np.flatnonzero(drawn.readable)
    weights = np.random.default_rng(0).integers(0, 3, (4, len(readable)))
    for counts in weights:
        rows = np.repeat(readable, counts)
        repeated = Detections(*(array[rows] for array in drawn.arrays))
        expected = average_precisions(match(repeated), CLASSES)
        found = [
            _rank(matches, readable, label).weighted_ap(counts[None])[0] for label in range(CLASSES)
        ]
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_intervals_hold_the_value_and_narrow_with_more_images():
    drawn = random_detections(2, images=40)
    widths = []
    for copies in (1, 9):
        many = Detections.concatenate([drawn] * copies)
        matches, readable = match(many), np.flatnonzero(many.readable)
        found = bootstrap(matches, readable, CLASSES, replicates=300)
        values = average_precisions(matches, CLASSES)
        low, high = found.average_precision.T
        assert ((low < values) & (values < high)).all()
        assert found.mean_average_precision[0] < values.mean() < found.mean_average_precision[1]
        widths.append(high - low)
    ratio = widths[0] / widths[1]
    assert ((ratio > 2) & (ratio < 4.5)).all()  # a third of the width for nine times the images


def test_a_class_in_few_images_has_none():
    truth = np.array([[[0, 0, 9, 9, image == 0, 0]] for image in range(8)], float)
    boxes = np.c_[truth[..., 4], np.full((8, 1), 0.9)][:, None]
    boxes = np.concatenate([boxes, truth[..., :4]], axis=2)
    found = bootstrap(match(Detections(boxes, truth, np.full((8, 2), 20))), np.arange(8), 2)
    assert found.average_precision[0].tolist() == [1, 1]
    assert np.isnan(found.average_precision[1]).all()


def test_without_boxes_or_images_there_are_none():
    for images in (0, 3):
        none = Detections(-np.ones((images, 2, 6)), -np.ones((images, 2, 6)), np.ones((images, 2)))
        found = bootstrap(match(none), np.arange(images), CLASSES)
        assert np.isnan(found.average_precision).all()
        assert np.isnan(found.mean_average_precision).all()
