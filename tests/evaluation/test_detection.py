"""Detectors are evaluated on files; a detector that finds the drawn boxes is right."""

from __future__ import annotations

import dataclasses
import json

import mxnet as mx
import numpy as np
import pytest
from support.color_detector import ColorDetector
from support.detection_data import CLASSES, make_voc

from gluondense.data.detection.dataset import open_detection
from gluondense.data.preprocessing import IMAGENET
from gluondense.evaluation.evaluate import evaluate_model
from gluondense.evaluation.model import EvaluatedModel

PIXELS = {"mean": (0, 0, 0), "std": (1 / 255,) * 3}  # the network gets pixels of 0 to 255


@pytest.fixture
def data(tmp_path):
    return open_detection(make_voc(tmp_path / "voc", 12, validation=7), class_names=CLASSES)


def model_of(resize: str, size: tuple[int, int] = (160, 224)) -> EvaluatedModel:
    one = dataclasses.replace(IMAGENET, resize=resize, input_size=size, crop_ratio=1.0, **PIXELS)
    return EvaluatedModel("colors", ColorDetector(), one, CLASSES)


@pytest.mark.parametrize("resize", ["exact", "letterbox"])
@pytest.mark.parametrize("workers", [0, 1])
def test_boxes_of_files_are_found_where_they_are(data, resize, workers):
    found = evaluate_model(model_of(resize), data, [mx.cpu()], batch_size=3, workers=workers)
    metrics = found.to_dict()
    assert json.loads(json.dumps(metrics, allow_nan=False))["classes"] == metrics["classes"]
    assert (metrics["images"], metrics["skipped"], metrics["split"]) == (7, 0, "val")
    assert metrics["mean_ap50"] == 1
    assert metrics["coco"] is None or metrics["coco"]["ap"] > 0.75
    assert found.score == ("mAP@0.5", 1)
    truths = sum(len(data.test.boxes(index)) for index in range(7))
    assert sum(row["right"] for row in metrics["classes"].values()) == truths
    assert found.lines()[0].startswith("7 images of detection (val): mAP@0.5 1.000")
    assert [line.split()[0] for line in found.lines()[2:5]] == list(CLASSES)


def test_the_page_shows_the_images_with_mistakes(data):
    evaluation = evaluate_model(model_of("letterbox"), data, [mx.cpu()], batch_size=3)
    assert "There are none." in evaluation.page()
    found = evaluation.summary.predictions.detections
    found[2, 0] = 0, 0.95, 0, 0, 5, 5  # invented
    summary = dataclasses.replace(evaluation.summary)
    page = dataclasses.replace(evaluation, summary=summary).page()
    assert page.count("<svg viewBox") == 1
    assert "invented: blue 0.95" in page


def test_an_unreadable_image_is_not_counted(data, capfd):
    data.test.annotations.path(1).write_bytes(b"broken")
    metrics = evaluate_model(model_of("exact"), data, [mx.cpu()], batch_size=7).to_dict()
    assert (metrics["images"], metrics["skipped"], metrics["mean_ap50"]) == (6, 1, 1)


def test_a_classifier_is_not_evaluated_on_boxes(data):
    model = model_of("exact")
    model.net.task = "classification"
    with pytest.raises(ValueError, match="one class per image, but detection has boxes"):
        evaluate_model(model, data, [mx.cpu()])
    with pytest.raises(ValueError, match=r"crops \(=10\) must be 1"):
        evaluate_model(model_of("exact"), data, [mx.cpu()], crops=10)


def test_detections_are_those_of_a_single_image(data):
    model = model_of("letterbox")
    found = evaluate_model(model, data, [mx.cpu()], batch_size=4).summary.predictions
    for index in range(7):
        file, _, name = data.test.read(index)
        pixels, placement = model.preprocessing.placed(file, name)
        _, _, boxes = model.net(mx.nd.array(pixels.transpose(2, 0, 1)[None]))
        expected = placement.to_original(boxes.asnumpy()[0])
        own = found.detections[index]
        count = (own[:, 0] >= 0).sum()
        assert count == len(data.test.boxes(index))
        order = np.argsort(own[:count, 2])
        kept = expected[expected[:, 2] > expected[:, 0]]
        np.testing.assert_allclose(
            own[:count][order, 2:], kept[np.argsort(kept[:, 0])], rtol=1e-5, atol=1e-3
        )
