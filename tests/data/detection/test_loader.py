"""Batches of pixels and boxes: equal however they are prepared."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support.detection_data import make_voc

from gluondense.data.detection.dataset import open_detection
from gluondense.data.detection.loader import DetectionLoader
from gluondense.data.detection.train_transform import DETECTION_AUGMENTATIONS, TrainTransform
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
        np.testing.assert_array_equal(labels[index, 0], placement.to_row())
        np.testing.assert_array_equal(labels[index, 1 : 1 + count], boxes)
        assert (labels[index, 1 + count :] == -1).all()
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
    assert (labels[:, 0, 0] > 0).all()  # replaced by the next image
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


TRAIN = TrainTransform(LETTERBOX, DETECTION_AUGMENTATIONS)
SIZES = [(64, 64), (96, 96), (32, 64), (128, 128)]
OPTIONS = {"transform": TRAIN, "shuffle": True, "seed": 3, "sizes": SIZES, "interval": 1}


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_do_not_depend_on_the_processes(make, workers):
    for epoch in (0, 5):
        expected = batches_of(make(**OPTIONS), epoch)
        check_equal(batches_of(make(**OPTIONS, workers=workers), epoch), expected)
        assert [len(pixels) for pixels, _ in expected] == [3, 3, 1]


def test_a_broken_image_in_a_mosaic_does_not_depend_on_the_processes(make, files, capfd):
    files.train.annotations.path(3).write_bytes(b"broken")
    expected = [batch for epoch in range(4) for batch in batches_of(make(**OPTIONS), epoch)]
    loader = make(**OPTIONS, workers=2)
    check_equal([batch for epoch in range(4) for batch in batches_of(loader, epoch)], expected)
    assert list(loader.bad) == [files.train.name(3)]
    assert capfd.readouterr().err.count("3.png") >= 1


def test_an_epoch_resumed_in_the_middle_has_the_same_batches(make):
    loader = make(2, **OPTIONS, workers=2)
    whole = batches_of(loader, 1)
    for start in range(5):
        check_equal(batches_of(loader, 1, start), whole[start:])
    going = loader.batches(0)
    next(going)
    going.close()
    check_equal(batches_of(loader, 1), whole)


def test_parts_and_blocks_make_up_the_whole(make):
    whole = batches_of(make(4, **OPTIONS), 2)
    parts = [batches_of(make(4, **OPTIONS, part=(n, 2), workers=n), 2) for n in range(2)]
    joined = [tuple(np.concatenate(arrays) for arrays in zip(*both)) for both in zip(*parts)]
    check_equal(joined, whole)
    blocks = [batches_of(make(7, block=block)) for block in ((0, 3), (3, 7))]
    (whole_pixels, _), *_ = batches_of(make(7))
    found = np.concatenate([pixels for batches in blocks for pixels, _ in batches])
    np.testing.assert_array_equal(found, whole_pixels)


def test_epochs_seeds_and_copies_differ(make):
    first, second = (batches_of(make(7, TRAIN), epoch)[0][0] for epoch in (0, 1))
    other = batches_of(make(7, TRAIN, seed=1))[0][0]
    assert not (first == second).all(axis=(1, 2, 3)).any()
    assert not (first == other).all(axis=(1, 2, 3)).any()
    copies = batches_of(make(2, TRAIN, repeats=2))[0][0]
    assert not np.array_equal(copies[0], copies[1])


def test_sizes_change_with_the_interval(make):
    def sizes(interval, epoch=0):
        loader = make(1, TRAIN, sizes=SIZES, interval=interval)
        return [pixels.shape[1:3] for pixels, _ in loader.batches(epoch)]

    each, third = sizes(1), sizes(3)
    assert len(set(each)) > 1
    assert set(each) <= set(SIZES)
    assert third[:3] == third[:1] * 3
    assert third[3:6] == third[3:4] * 3
    assert third[:4] == [each[0]] * 3 + [each[1]]
    assert len({tuple(sizes(1, epoch)) for epoch in range(3)}) > 1


def test_the_last_epochs_have_another_transform(make):
    plain = TrainTransform(LETTERBOX)
    loader = make(7, TRAIN, final=plain, final_epoch=2, seed=1)
    expected = batches_of(make(7, plain, seed=1))
    check_equal(batches_of(loader, 2), expected)
    check_equal(batches_of(loader, 3), expected)
    check_equal(batches_of(loader, 1), batches_of(make(7, TRAIN, seed=1), 1))
