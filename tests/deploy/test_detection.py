"""Boxes of image files: prediction in process and by the service, in pixels of the original."""

from __future__ import annotations

import json

import mxnet as mx
import numpy as np
import pytest
from PIL import Image
from support.detectors import CLASSES
from support.exported_detectors import own_detector, write_photographs

import gluondense
from gluondense.__main__ import main
from gluondense.data.boxes import letterbox
from gluondense.data.detections import to_answer
from gluondense.data.preprocessing import IMAGENET, Preprocessing
from gluondense.demo.classifier import Classifier
from gluondense.deploy import archive, predict, unpack
from gluondense.deploy.serving.service import RefusedError, Service

# SymbolBlock of the service infers the types of a symbol whose input has none.
pytestmark = pytest.mark.filterwarnings("ignore:Cannot decide type:UserWarning")

SIZE = (64, 96)
LETTERBOX = Preprocessing(IMAGENET.mean, IMAGENET.std, input_size=SIZE, resize="letterbox")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_photographs(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "boxes"
    options = {"preprocessing": LETTERBOX, "preprocess": True}
    return gluondense.export(own_detector(), path, (1, 3, *SIZE), **options).prefix


@pytest.fixture(scope="module")
def found(exported, files):
    return predict(gluondense.load_exported(exported), files, threshold=0.1)


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_boxes_are_inside_the_original_image_and_sorted(found, files):
    assert sum(len(each.boxes) for each in found) > 10
    for each, file in zip(found, files):
        assert each.image == str(file)
        width, height = pixels_of(file).shape[1::-1]
        scores = [box["probability"] for box in each.boxes]
        assert scores == sorted(scores, reverse=True)
        assert min(scores, default=1) >= 0.1
        for box in each.boxes:
            x1, y1, x2, y2 = box["box"]
            assert 0 <= x1 < x2 <= width
            assert 0 <= y1 < y2 <= height
            assert box["class"] in CLASSES


def test_an_export_and_its_network_give_the_same_boxes(found, files):
    net = own_detector()
    wanted = predict(net, files, preprocessing=LETTERBOX, threshold=0.1)
    for one, other in zip(found, wanted):
        assert_same(list(one.boxes), list(other.boxes))


def test_both_ways_of_resizing_put_boxes_on_the_object(files):
    """A detector that reports the whole image, of each way: the answer is the image's size."""

    class Whole(mx.gluon.Block):
        task = "detection"

        def __init__(self, rows):
            super().__init__()
            self.rows = mx.nd.array([[[0, 0.9, *rows]]])

        def forward(self, x):
            return [self.rows[..., :1], self.rows[..., 1:2], self.rows[..., 2:]]

    width, height = pixels_of(files[0]).shape[1::-1]
    placed = letterbox((height, width), (64, 64))
    corners = placed.to_input(np.array([0.0, 0.0, width, height])).tolist()
    for resize, rows in (("letterbox", corners), ("exact", [0, 0, 64, 64])):
        way = Preprocessing(IMAGENET.mean, IMAGENET.std, input_size=64, resize=resize)
        (each,) = predict(Whole(rows), files[:1], preprocessing=way)
        np.testing.assert_allclose(each.boxes[0]["box"], [0, 0, width, height], atol=1e-3)


def test_boxes_in_the_padding_and_below_the_threshold_are_dropped():
    placed = letterbox((50, 100), (100, 100))  # rows 25 to 75
    rows = np.array([[0, 0.9, 10, 2, 30, 20], [1, 0.8, 10, 20, 30, 60], [2, 0.2, 0, 30, 9, 60]])
    answer = to_answer(rows, placed, CLASSES)
    assert [(each["class"], each["box"]) for each in answer] == [(CLASSES[1], [10, 0, 30, 35])]
    assert len(to_answer(rows, placed, None, threshold=0.1)) == 2
    assert len(to_answer(rows, placed, None, threshold=0.1, top=1)) == 1
    assert to_answer(np.full((5, 6), -1.0), placed, CLASSES) == []


@pytest.mark.parametrize("suffix", [".mar", ".tar.gz"])
def test_the_service_answers_the_same_boxes(exported, found, files, suffix, tmp_path):
    path = archive(exported, tmp_path / f"boxes{suffix}")
    service = Service(unpacked(path, tmp_path), None, batch_size=len(files))
    requests = [{"body": file.read_bytes(), "threshold": b"0.1"} for file in files]
    answers = service.answer([*requests, {"body": b"garbage"}])
    assert isinstance(answers.pop(), RefusedError)
    for answer, each in zip(answers, found):
        assert_same(json.loads(json.dumps(answer)), list(each.boxes))
    (fewer,) = service.answer([{**requests[0], "top": "2"}])
    assert_same(fewer, list(found[0].boxes[:2]))
    (default,) = service.answer([{"body": requests[0]["body"]}])
    assert_same(default, [box for box in found[0].boxes if box["probability"] >= 0.5])
    for invalid in ("2", "-1", "nan", "much"):
        (refused,) = service.answer([{**requests[0], "threshold": invalid}])
        assert refused.status == 400
        assert "a number from 0 to 1" in str(refused)


def unpacked(path, folder):
    if path.name.endswith(".mar"):
        return unpack(path, folder).prefix.rpartition("/")[0]
    import tarfile

    with tarfile.open(path) as tar:
        tar.extractall(folder / "tar", filter="data")
    return folder / "tar"


def assert_same(got, wanted):
    assert [each["class"] for each in got] == [each["class"] for each in wanted]
    for key, tolerance in (("probability", 1e-5), ("box", 1e-2)):
        values = [[each[key] for each in answer] for answer in (got, wanted)]
        np.testing.assert_allclose(*values, atol=tolerance)


def test_the_command_prints_json_and_draws_boxes(exported, files, found, tmp_path, capsys):
    images, out = [str(file) for file in files], tmp_path / "drawn"
    arguments = ["predict", exported, *images, "--threshold", "0.1", "--out", str(out)]
    assert main([*arguments, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [each["image"] for each in printed] == images
    for each, wanted in zip(printed, found):
        assert_same(each["boxes"], list(wanted.boxes))
    for file in files:
        drawn, original = pixels_of(out / f"{file.stem}.png"), pixels_of(file)
        assert drawn.shape == original.shape
        assert (drawn != original).any()
    assert main(arguments) == 0
    table = capsys.readouterr().out
    assert images[0] in table
    assert any(name in table for name in CLASSES)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--threshold", "2"], "--threshold"),
        (["--explain", "page.html"], "--explain is for classes"),
    ],
)
def test_the_command_refuses_in_one_line(exported, files, arguments, words, capsys):
    assert main(["predict", exported, str(files[0]), *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_the_demo_page_refuses_a_detector(exported):
    with pytest.raises(ValueError, match="is a detector, but the page shows classes"):
        Classifier(exported)
