"""Batches of pixels and boxes: equal however they are prepared."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support.detection_data import make_voc

from gluondense.data.detection.dataset import open_detection
from gluondense.data.detection.loader import DetectionLoader
from gluondense.data.detection.transforms import EvalTransform
from gluondense.data.preprocessing import IMAGENET

LETTERBOX = dataclasses.replace(IMAGENET, resize="letterbox", input_size=64)
EVAL = EvalTransform(LETTERBOX)


@pytest.fixture
def files(tmp_path):
    return open_detection(make_voc(tmp_path / "voc", 10, validation=3))


@pytest.fixture
def make(files):
    loaders = []

    def make(batch_size=3, transform=EVAL, source=files.train, **options):
        loaders.append(DetectionLoader(source, transform, batch_size, **options))
        return loaders[-1]

    yield make
    for loader in loaders:
        loader.close()


def batches_of(loader, epoch=0, start=0):
    return [(pixels.copy(), labels) for pixels, labels in loader.batches(epoch, start)]


def check_equal(found, expected):
    assert len(found) == len(expected)
    for (pixels, labels), (others, other_labels) in zip(found, expected):
        np.testing.assert_array_equal(pixels, others)
        np.testing.assert_array_equal(labels, other_labels)


@pytest.mark.parametrize("resize", ["exact", "letterbox"])
def test_validation_has_the_pixels_and_boxes_of_prediction(make, files, resize):
    one = dataclasses.replace(LETTERBOX, resize=resize, input_size=(64, 96))
    (pixels, labels), *_ = batches_of(make(7, EvalTransform(one)))
    assert pixels.shape == (7, 64, 96, 3)
    assert labels.shape == (7, 100, 6)
    assert (pixels.dtype, labels.dtype) == (np.uint8, np.float32)
    for index in range(7):
        data, boxes, name = files.train.read(index)
        np.testing.assert_array_equal(pixels[index], one.pixels(data, name))
        count = len(boxes)
        placement = one.placement(*files.train.size(index))
        back = placement.to_original(labels[index, :count, :4].astype(np.float64))
        np.testing.assert_allclose(back, boxes[:, :4], atol=1e-4)
        np.testing.assert_array_equal(labels[index, :count, 4], boxes[:, 4])
        assert (labels[index, :count, 5] == 1).all()
        assert (labels[index, count:] == -1).all()
    data, _, name = files.test.read(1)
    np.testing.assert_array_equal(files.read_test_images([1], one)[0], one.pixels(data, name))


def test_more_boxes_than_fit_are_named(make, capsys):
    (_, labels), *_ = batches_of(make(max_boxes=2))
    assert labels.shape[1] == 2
    assert "an image has 3 boxes, of which 2 are used" in capsys.readouterr().err


@pytest.mark.parametrize("workers", [0, 2])
def test_images_of_another_size_than_their_annotation(make, files, workers, capfd):
    from PIL import Image

    path = files.train.annotations.path(2)
    Image.new("RGB", (33, 44)).save(path)
    files.train.annotations.path(4).write_bytes(b"")
    loader = make(7, workers=workers)
    (pixels, labels), *_ = batches_of(loader)
    for index in (2, 4):
        assert (pixels[index] == 0).all()
        assert (labels[index] == -1).all()
    assert "2.png has 33x44 pixels, its annotation says 90x80; correct" in loader.bad[str(path)]
    assert len(loader.bad) == 2
    assert "warning: skipped" in capfd.readouterr().err
    shuffled = make(7, shuffle=True, workers=workers)
    (pixels, labels), *_ = batches_of(shuffled)
    assert (labels[:, 0, 4] >= 0).all()  # replaced by the next image
    with pytest.raises(ValueError, match="or leave such images out: `bad` skip"):
        batches_of(make(7, bad="error", workers=workers))


def test_arguments_are_checked(make):
    with pytest.raises(ValueError, match=r"sizes \(=\(60, 64\)\) must be multiples of 32"):
        make(sizes=[(60, 64)])
    with pytest.raises(ValueError, match="max_boxes"):
        make(max_boxes=0)
    with pytest.raises(ValueError, match="batch_size"):
        make(batch_size=0)
    with pytest.raises(ValueError, match="bad"):
        make(bad="clip")
