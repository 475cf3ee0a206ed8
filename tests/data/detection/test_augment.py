"""Augmented boxes stay on their pixels: drawn boxes are found where their labels say."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from support.detection_data import BACKGROUND, CLASSES, draw, random_boxes

from gluondense.data.boxes import PADDING
from gluondense.data.detection.augment import SINGLE, change_colors
from gluondense.data.detection.sample import Sample
from gluondense.data.detection.source import AnnotatedImage
from gluondense.data.detection.train_transform import TrainTransform, mix, paste
from gluondense.data.detection.transforms import EvalTransform, decode_sample
from gluondense.data.preprocessing import IMAGENET

GEOMETRY = (*SINGLE, "expand", "mosaic")
BGR = {"red": 0, "green": 1, "blue": 2}


def sample_of(seed: int, size: tuple[int, int] = (120, 160)) -> Sample:
    boxes = random_boxes(np.random.default_rng(seed), size, 3)
    rows = [[*corners, CLASSES.index(name), 1] for name, *corners in boxes]
    return Sample(draw(size, boxes), np.array(rows, np.float32))


def transform_of(augment, resize="letterbox", **fields):
    one = dataclasses.replace(IMAGENET, resize=resize, **fields)
    return TrainTransform(one, tuple(augment))


def check_boxes(sample: Sample, uncovered: float) -> None:
    """Check that boxes have the colour of their class, and hardly anything else has one."""
    channels = np.stack([sample.pixels[..., BGR[name]] for name in CLASSES])
    others = np.sort(sample.pixels, axis=2)[..., 1]
    colored = (channels > 150) & (others < 100)
    rest = colored.any(axis=0)
    for x1, y1, x2, y2, label, weight in sample.labels:
        assert weight == 1
        inner = [round(v) for v in (x1 + 1.5, y1 + 1.5, x2 - 1.5, y2 - 1.5)]
        inside = colored[int(label), inner[1] : inner[3], inner[0] : inner[2]]
        assert inside.all()
        outer = [max(0, round(v)) for v in (x1 - 1.5, y1 - 1.5, x2 + 1.5, y2 + 1.5)]
        rest[outer[1] : outer[3], outer[0] : outer[2]] = False
    assert rest.sum() <= uncovered * max(1, colored.sum())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", SINGLE)
def test_boxes_stay_on_their_pixels(name, seed):
    changed = SINGLE[name](sample_of(seed), np.random.default_rng(seed))
    check_boxes(changed, uncovered=0.1 if name == "crop" else 0)
    assert (changed.labels[:, :2] >= 0).all()
    assert (changed.labels[:, 2:4] <= changed.size[::-1]).all()


@pytest.mark.parametrize("name", GEOMETRY)
def test_augmentations_change_some_images_only(name):
    transform = transform_of([name])
    plain = transform_of([])
    changed = []
    for seed in range(12):
        arguments = sample_of, seed, 20, (128, 96)
        found = transform(*arguments, np.random.default_rng(seed))
        expected = plain(*arguments, np.random.default_rng(seed))
        changed.append(not np.array_equal(found.pixels, expected.pixels))
    assert 2 <= sum(changed) <= 10


@pytest.mark.parametrize("resize", ["exact", "letterbox"])
@pytest.mark.parametrize("augment", [(), ("expand",), ("mosaic",), GEOMETRY], ids=len)
def test_boxes_of_an_input_are_on_their_pixels(augment, resize):
    transform = transform_of(augment, resize)
    for seed in range(10):
        sample = transform(sample_of, seed, 20, (128, 96), np.random.default_rng(seed))
        assert sample.pixels.shape == (128, 96, 3)
        check_boxes(sample, uncovered=0.25 if "mosaic" in augment or "crop" in augment else 0)


def test_a_mosaic_has_boxes_of_four_images():
    transform = transform_of(["mosaic"])
    found = [transform(sample_of, n, 20, (256, 256), np.random.default_rng(n)) for n in range(12)]
    assert max(len(sample.labels) for sample in found) > 6
    assert min(len(sample.labels) for sample in found) == 3


def test_an_object_of_which_little_is_left_is_left_out():
    image = Sample(np.zeros((50, 50, 3), np.uint8), np.array([[0, 0, 40, 10, 0, 1]], np.float32))
    for end, kept in ((9, True), (7, False)):
        canvas = np.zeros((50, 50, 3), np.uint8)
        labels = paste(canvas, image, (0, 0, 50, 50), (0, 0, end, 50))
        assert labels[:, :4].tolist() == ([[0, 0, end, 10]] if kept else [])


@pytest.mark.parametrize("resize", ["exact", "letterbox"])
def test_training_and_validation_differ_by_the_rounding_of_resizing(resize):
    rng = np.random.default_rng(0)
    smooth = cv2.resize(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8), (160, 120))
    data = cv2.imencode(".png", smooth)[1].tobytes()
    image = AnnotatedImage(data, np.array([[10, 20, 90, 80, 1, 0]], np.float32), "a.png")
    train = transform_of([], resize)
    expected = EvalTransform(train.preprocessing).decode(image, (120, 160), (96, 64))
    sample = train(lambda index: train.decode(image, (120, 160), (96, 64)), 0, 1, (96, 64), rng)
    x_scale, y_scale, x, y = expected.labels[0, 2:]
    corners = [10 * x_scale + x, 20 * y_scale + y, 90 * x_scale + x, 80 * y_scale + y]
    np.testing.assert_allclose(sample.labels, [[*corners, 1, 1]], rtol=1e-6)
    difference = np.abs(sample.pixels.astype(int) - expected.pixels)
    assert difference.mean() < 1.5
    assert (sample.pixels == PADDING).all(axis=2).sum() == (expected.pixels == PADDING).all(
        axis=2
    ).sum()


def test_a_jpeg_decoded_smaller_has_smaller_boxes():
    pixels = draw((203, 405), [("red", 40, 60, 200, 160)])
    data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    image = AnnotatedImage(data, np.array([[40, 60, 200, 160, 2, 0]], np.float32), "a.jpg")
    for at_least, size in ((0, (203, 405)), (100, (102, 203)), (40, (51, 102))):
        sample = decode_sample(image, (203, 405), at_least)
        assert sample.size == size
        check_boxes(sample, 0)
    with pytest.raises(ValueError, match=r"a.jpg has 203x102 pixels, its annotation says 405x211"):
        decode_sample(image, (211, 405), 100)


def test_mixup_adds_images_and_shares_weights():
    first, second = sample_of(1), sample_of(2)
    both = mix(first, second, 0.25)
    np.testing.assert_allclose(both.pixels, 0.25 * first.pixels + 0.75 * second.pixels, atol=0.51)
    np.testing.assert_array_equal(both.labels[:, 5], [0.25] * 3 + [0.75] * 3)
    np.testing.assert_array_equal(both.labels[3:, :5], second.labels[:, :5])
    transform = transform_of(["mixup"])
    weights = [
        transform(sample_of, n, 20, (64, 64), np.random.default_rng(n)).labels[:, 5]
        for n in range(12)
    ]
    mixed = [row for row in weights if len(row) == 6]
    assert 2 <= len(mixed) <= 10
    for row in mixed:
        assert row[0] + row[5] == pytest.approx(1)


def test_colors_change_and_boxes_do_not():
    sample = sample_of(0)
    changed = change_colors(sample, ("color_jitter", "lighting"), np.random.default_rng(3))
    assert changed.labels is sample.labels
    assert changed.pixels.dtype == np.uint8
    assert not np.array_equal(changed.pixels, sample.pixels)
    background = changed.pixels[(sample.pixels == BACKGROUND).all(axis=2)]
    assert (background == background[0]).all()


def test_a_network_of_dark_on_light_gets_inverted_images():
    data = cv2.imencode(".png", np.full((64, 64, 3), 200, np.uint8))[1].tobytes()
    image = AnnotatedImage(data, np.zeros((0, 6), np.float32), "a.png")
    train = transform_of([], "exact", invert=True)
    sample = train(lambda index: train.decode(image, (64, 64), (32, 32)), 0, 1, (32, 32), None)
    expected = EvalTransform(train.preprocessing).decode(image, (64, 64), (32, 32))
    np.testing.assert_array_equal(sample.pixels, expected.pixels)
    assert sample.pixels[0, 0, 0] == 55


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="unknown augmentation 'mosiac'; did you mean 'mosaic'"):
        transform_of(["mosiac"])
    with pytest.raises(ValueError, match=r"resize \(='shorter'\) must be 'exact' or 'letterbox'"):
        transform_of([], "shorter")
    with pytest.raises(ValueError, match=r"channels \(=1\) must be 3"):
        TrainTransform(dataclasses.replace(IMAGENET.for_channels(1), resize="exact"))
