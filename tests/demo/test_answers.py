"""The answers on the page of ``gluondense demo`` as HTML, without Gradio and a browser."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from support.exported_networks import VARIANTS, build

import gluondense
from gluondense.demo.classifier import Classifier
from gluondense.demo.page import _respond
from gluondense.deploy import load_exported, predict

CLASSES = ("cat", "<b>dog</b>", "fish", "bird", "frog")
MEAN, STD, SHAPE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (1, 3, 32, 32)


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_the_classifier_answers_as_predict_does(tmp_path, photo):
    net = build(*VARIANTS["densenet"])
    gluondense.export(net, tmp_path / "net", SHAPE, class_names=CLASSES)
    with pytest.raises(ValueError, match="is unknown: give at least `mean` and `std`"):
        Classifier(str(tmp_path / "net"))
    classifier = Classifier(str(tmp_path / "net"), mean=MEAN, std=STD)
    exported = load_exported(tmp_path / "net")
    (expected,) = predict(exported, [photo], SHAPE, MEAN, STD, CLASSES, top=2)
    answer = classifier(photo, top=2)
    assert answer.prediction == expected
    assert answer.seconds > 0
    assert tuple(classifier.explain(photo))[:2] == expected.labels


def test_several_labels_have_a_bar_each_and_their_thresholds(tmp_path, photo):
    net = build(*VARIANTS["densenet"])
    limits = (0.1, 0.3, 0.5, 0.7, 0.9)
    options = {"task": "multi_label", "thresholds": limits, "class_names": CLASSES}
    gluondense.export(net, tmp_path / "net", SHAPE, mean=MEAN, std=STD, **options)
    text = list(_respond(Classifier(str(tmp_path / "net")), str(photo), None))[-1]
    assert text.count('class="value"') == len(CLASSES)
    for limit in limits:
        assert f'title="threshold {limit:.1%}"' in text
    assert 'class="maps"' in text


def test_an_export_without_feature_maps_says_why_there_is_no_map(tmp_path, photo):
    pytest.importorskip("onnxruntime")
    net = build(*VARIANTS["densenet"])
    gluondense.export(net, tmp_path / "net", SHAPE, target="onnx", mean=MEAN, std=STD)
    first, last = _respond(Classifier(str(tmp_path / "net")), str(photo), None)
    assert first.count('class="value"') == 5
    assert last.startswith(first.removesuffix("</div>"))
    assert "No heat map: " in last
    assert "portable" in last
