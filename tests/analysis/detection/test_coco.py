"""COCO's metrics equal pycocotools on the files of an official evaluation."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from support.detections import random_detections

from gluondense.analysis.detection.average_precision import average_precisions
from gluondense.analysis.detection.coco import NAMES, coco_metrics
from gluondense.analysis.detection.detections import Detections
from gluondense.analysis.detection.matching import match


def official(predictions: Detections, classes: int, folder):
    """Evaluate as COCO's server does: annotations and results in JSON files."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations, results = [], []
    for index in np.flatnonzero(predictions.readable):
        for *box, label, difficult in predictions.truth[index].astype(float):
            if label < 0:
                continue
            width, height = box[2] - box[0], box[3] - box[1]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": int(index),
                    "category_id": int(label) + 7,
                    "bbox": [box[0], box[1], width, height],
                    "area": width * height,
                    "iscrowd": int(difficult),
                }
            )
        for label, score, *box in predictions.detections[index].astype(float):
            if label >= 0:
                size = [box[2] - box[0], box[3] - box[1]]
                row = {"image_id": int(index), "category_id": int(label) + 7, "score": score}
                results.append({**row, "bbox": [*box[:2], *size]})
    data = {
        "images": [{"id": int(index)} for index in np.flatnonzero(predictions.readable)],
        "categories": [{"id": label + 7} for label in range(classes)],
        "annotations": annotations,
    }
    (folder / "truth.json").write_text(json.dumps(data))
    (folder / "results.json").write_text(json.dumps(results))
    truth = COCO(str(folder / "truth.json"))
    evaluation = COCOeval(truth, truth.loadRes(str(folder / "results.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("scores", [1000, 2])
@pytest.mark.parametrize("seed", range(4))
def test_it_equals_pycocotools(tmp_path, seed, scores):
    pytest.importorskip("pycocotools")
    drawn = random_detections(seed, 15, 12, 8, 3, size=400, scores=scores)
    ours, theirs = coco_metrics(drawn, 3), official(drawn, 3, tmp_path)
    values = np.array([ours.summary[name] for name in NAMES])
    np.testing.assert_allclose(np.where(np.isnan(values), -1, values), theirs.stats, atol=1e-12)
    assert 0.02 < ours.summary["ap"] < 0.9
    assert not np.isnan(values).any()
    each = theirs.eval["precision"][:, :, :, 0, 2]
    np.testing.assert_allclose(ours.average_precision, each.mean(axis=(0, 1)), atol=1e-12)
    np.testing.assert_allclose(ours.average_precision50, each[0].mean(axis=0), atol=1e-12)


def test_at_an_iou_of_a_half_it_is_close_to_voc():
    pytest.importorskip("pycocotools")
    drawn = random_detections(3, images=150, detections=20, truths=6)
    drawn.truth[..., 5] = np.where(drawn.truth[..., 4] < 0, -1, 0)  # none is difficult
    voc = average_precisions(match(drawn), 3)
    np.testing.assert_allclose(coco_metrics(drawn, 3).average_precision50, voc, atol=0.02)


@pytest.mark.parametrize(("boxes", "value"), [(-np.ones((2, 3, 6)), np.nan), (None, 0.0)])
def test_there_may_be_no_detections_and_no_true_boxes(boxes, value):
    pytest.importorskip("pycocotools")
    truth = -np.ones((2, 1, 6)) if boxes is not None else np.array([[[0, 0, 9, 9, 0, 0]]] * 2)
    found = coco_metrics(Detections(-np.ones((2, 3, 6)), truth, np.full((2, 2), 50)), 2)
    np.testing.assert_array_equal(found.summary["ap"], value)
    np.testing.assert_array_equal(found.average_precision, [value, np.nan])


def test_without_pycocotools_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(ImportError, match=r"pip install 'gluondense\[detection\]'\.$"):
        coco_metrics(random_detections(0), 3)
