"""Average precision equals GluonCV's metrics, on random and on degenerate boxes."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.detections import random_detections

from gluondense.analysis.detection.average_precision import (
    average_precisions,
    mean_ap,
    precision_recall,
)
from gluondense.analysis.detection.detections import Detections
from gluondense.analysis.detection.matching import match
from gluondense.environment.process import import_gluoncv

CLASSES = 3
NAMES = tuple("abc")


def gluoncv_values(predictions: Detections, rule: str) -> np.ndarray:
    """Return the average precision of each class, and their mean, of GluonCV's metric."""
    import_gluoncv()
    from gluoncv.utils import metrics

    kind = {"area": metrics.VOCMApMetric, "11 points": metrics.VOC07MApMetric}[rule]
    metric = kind(0.5, NAMES)
    found = predictions.detections.astype(np.float64)
    # GluonCV leaves the order of equal scores to NumPy's sort, which is not stable: number them.
    scores = np.where(found[..., 0] < 0, -1, found[..., 1])
    order = np.argsort(-scores.ravel(), kind="stable")
    ranks = np.empty(scores.size)
    ranks[order] = -np.arange(scores.size)
    ranks = ranks.reshape(scores.shape)
    truth = predictions.truth.astype(np.float64)
    inclusive = [0, 0, 1, 1]  # GluonCV's boxes include their last pixel
    for index in np.flatnonzero(predictions.readable):
        metric.update(
            *(found[None, index, :, 2:] - inclusive, found[None, index, :, 0], ranks[None, index]),
            *(truth[None, index, :, :4] - inclusive, truth[None, index, :, 4]),
            truth[None, index, :, 5],
        )
    return np.array(metric.get()[1], float)


@pytest.mark.filterwarnings("ignore:Mean of empty slice:RuntimeWarning")
@pytest.mark.parametrize("rule", ["area", "11 points"])
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    images=st.integers(1, 15),
    detections=st.integers(1, 30),
    truths=st.integers(1, 12),
    classes=st.integers(1, CLASSES),
    scores=st.sampled_from((1, 3, 10_000)),
)
def test_it_equals_gluoncv(rule, seed, images, detections, truths, classes, scores):
    drawn = random_detections(seed, images, detections, truths, classes, scores=scores)
    if not drawn.readable.any() or drawn.classes == 0:
        return
    ours = average_precisions(match(drawn), CLASSES, rule)
    try:
        theirs = gluoncv_values(drawn, rule)
    except ValueError:  # no box at all in the readable images, of which GluonCV has no maximum
        assert np.isnan(ours).all()
        return
    np.testing.assert_allclose(ours, theirs[:-1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(mean_ap(drawn, rule=rule), theirs[-1], rtol=0, atol=1e-12)


def test_known_values_of_both_rules():
    truth = np.array([[[0, 0, 9, 9, 0, 0], [20, 0, 29, 9, 0, 0]]], float)
    boxes = np.array([[[0, 0.9, 0, 0, 9, 9], [0, 0.8, 60, 0, 69, 9], [0, 0.7, 20, 0, 29, 9]]])
    matches = match(Detections(boxes, truth, np.array([[100, 100]])))
    curve = precision_recall(matches, 0)
    np.testing.assert_allclose(curve.recall, [0.5, 0.5, 1])
    np.testing.assert_allclose(curve.precision, [1, 1 / 2, 2 / 3])
    assert curve.average_precision() == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert curve.average_precision("11 points") == pytest.approx((6 + 5 * 2 / 3) / 11)


def test_classes_without_true_boxes_have_none_and_those_without_detections_zero():
    truth = np.array([[[0, 0, 9, 9, 1, 0], [20, 0, 29, 9, 2, 1]]], float)
    boxes = np.array([[[0, 0.9, 0, 0, 9, 9]]])
    predictions = Detections(boxes, truth, np.array([[100, 100]]))
    values = average_precisions(match(predictions), 4)
    np.testing.assert_array_equal(values, [np.nan, 0, np.nan, np.nan])
    assert mean_ap(predictions) == 0
    assert np.isnan(mean_ap(Detections(boxes, -np.ones((1, 2, 6)), predictions.sizes)))


def test_an_unknown_rule_is_named():
    with pytest.raises(ValueError, match="11 points"):
        mean_ap(random_detections(0), rule="12 points")


def test_five_thousand_images_take_seconds():
    part = random_detections(0, images=100, detections=100, truths=20, classes=80, size=900)
    predictions = Detections.concatenate([part] * 50)
    began = time.process_time()
    assert 0 < mean_ap(predictions) < 1
    assert time.process_time() - began < 10
