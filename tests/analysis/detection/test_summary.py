from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from support.detections import random_detections

from gluondense.analysis.detection.average_precision import mean_ap
from gluondense.analysis.detection.detections import Detections
from gluondense.analysis.detection.summary import DetectionSummary

NAMES = ("cat", "dog", "cow", "yak")


def test_the_summary_is_valid_json_with_all_classes():
    drawn = random_detections(0, images=30)
    found = DetectionSummary(drawn, NAMES).to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["mean_ap50"] == pytest.approx(mean_ap(drawn))
    assert found["mean_ap50_voc07"] == pytest.approx(mean_ap(drawn, rule="11 points"))
    assert tuple(found["classes"]) == NAMES
    assert found["classes"]["yak"]["ap50"] is None
    each = found["classes"].values()
    assert sum(row["right"] for row in each) / sum(row["truth"] for row in each) == found["recall"]
    sizes = found["recall_by_size"].values()
    assert sum(size["truth"] for size in sizes) == sum(row["truth"] for row in each)
    assert sum(size["found"] for size in sizes) == sum(row["right"] for row in each)


def test_cocos_metrics_are_null_without_pycocotools(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    found = DetectionSummary(random_detections(0), NAMES).to_dict()
    assert found["coco"] is None
    assert found["classes"]["cat"]["ap"] is None


def test_images_without_any_box_have_a_summary():
    none = Detections(-np.ones((3, 2, 6)), -np.ones((3, 1, 6)), np.full((3, 2), 50))
    found = DetectionSummary(none, NAMES).to_dict()
    assert found["mean_ap50"] is found["mean_ap50_interval"] is found["precision"] is None
