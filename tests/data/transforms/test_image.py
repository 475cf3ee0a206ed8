from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from support.images import encoded, gradient, noisy_image

from gluondense.data.preprocessing import Preprocessing
from gluondense.data.transforms.augmented import augmented_dtype, erase, to_input
from gluondense.data.transforms.image import (
    EvalTransform,
    TrainTransform,
    random_box,
)
from gluondense.data.transforms.rand_augment import _TABLE, rand_augment

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def evaluation(size, crops=1, **fields):
    return EvalTransform(Preprocessing(MEAN, STD, input_size=size, **fields), crops)


def run(transform, data, seed=0):
    """Return the normalized input of an image, or of its ten crops."""
    out = np.zeros(transform.shape, transform.dtype)
    transform(data, "a", np.random.default_rng(seed), out)
    inputs = to_input(out if out.ndim == 4 else out[None], MEAN, STD)
    return inputs if out.ndim == 4 else inputs[0]


def pixels_of(planes):
    """Invert the normalization: (H, W, 3) in [0, 255]."""
    return (planes.transpose(1, 2, 0) * STD + MEAN) * 255


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("size", "ratio"), [((32, 32), 0.875), ((33, 33), 0.887), ((40, 40), 1.0)])
def test_evaluation_equals_torchvision(interpolation, size, ratio):
    data = encoded(noisy_image(size=(91, 130)), "PNG")
    found = run(evaluation(size, crop_ratio=ratio, interpolation=interpolation), data)
    image = Image.open(io.BytesIO(data))
    # torchvision's Resize(int) and CenterCrop, step by step.
    shorter = int(size[0] / ratio)
    longer = int(shorter * 130 / 91)
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    resized = image.resize((longer, shorter), filters[interpolation])
    top, left = round((shorter - size[0]) / 2), round((longer - size[1]) / 2)
    crop = np.asarray(resized)[top : top + size[0], left : left + size[1]]
    np.testing.assert_allclose(pixels_of(found), crop, atol=1e-3)


def test_images_smaller_than_the_input_are_enlarged():
    assert run(evaluation(64), encoded(noisy_image(size=(5, 9)))).shape == (3, 64, 64)
    transform = TrainTransform((64, 64), ("random_resized_crop",))
    for seed in range(5):
        run(transform, encoded(noisy_image(size=(1, 3))), seed)


def test_ten_crops_are_corners_centre_and_mirrors():
    data = encoded(gradient(size=(40, 40)), "PNG")
    crops = run(evaluation(20, 10, crop_ratio=0.5), data)
    whole = np.asarray(gradient(size=(40, 40)))
    for crop, (top, left) in zip(crops, [(0, 0), (0, 20), (20, 0), (20, 20), (10, 10)]):
        expected = whole[top : top + 20, left : left + 20]
        np.testing.assert_allclose(pixels_of(crop), expected, atol=1e-3)
    np.testing.assert_array_equal(crops[5:], crops[:5, ..., ::-1])


def test_random_boxes_have_the_distribution_of_torchvision():
    rng = np.random.default_rng(0)
    boxes = np.array([random_box(300, 400, rng) for _ in range(4000)])
    top, left, height, width = boxes.T
    assert (top >= 0).all()
    assert (top + height <= 300).all()
    assert (left + width <= 400).all()
    area, aspect = height * width / 120000, width / height
    assert area.min() < 0.09
    assert area.max() > 0.9
    # Not the drawn means of 0.54 and 0, because large upright boxes do not fit.
    assert area.mean() == pytest.approx(0.43, abs=0.02)
    assert aspect.min() > 0.74
    assert aspect.max() < 1.35
    assert np.log(aspect).mean() == pytest.approx(0.035, abs=0.015)


def test_random_boxes_have_the_least_area_that_is_asked_for():
    rng = np.random.default_rng(0)
    boxes = np.array([random_box(300, 400, rng, min_area=0.5) for _ in range(500)])
    area = boxes[:, 2] * boxes[:, 3] / 120000
    assert 0.49 < area.min() < 0.55
    images = {
        least: [
            run(TrainTransform((8, 8), ("random_resized_crop",), min_area=least), data, seed)
            for seed in range(5)
        ]
        for least in (0.05, 1.0)
        for data in [encoded(gradient(size=(40, 40)), "PNG")]
    }
    spread = {
        least: np.std([pixels_of(i) for i in found], 0).max() for least, found in images.items()
    }
    assert spread[1.0] < spread[0.05]


def test_boxes_of_very_long_images_are_central():
    assert random_box(10, 1000, np.random.default_rng(0)) == (0, 493, 10, 13)


def test_box_of_the_reduced_image_equals_that_of_the_full_image():
    """The colours of the gradient tell the position of the box, whatever the decoded size."""
    image = gradient(size=(600, 800))
    small = TrainTransform((24, 24), ("random_resized_crop",))
    for seed in range(8):
        jpeg, png = run(small, encoded(image), seed), run(small, encoded(image, "PNG"), seed)
        assert np.abs(pixels_of(jpeg)[..., :2] - pixels_of(png)[..., :2]).max() < 6


def test_flips_are_half_of_all():
    data = encoded(gradient(size=(16, 16)), "PNG")
    transform = TrainTransform((16, 16), ("flip",))
    falls = [run(transform, data, seed)[0, 0, 0] > 0 for seed in range(200)]
    assert 70 < sum(falls) < 130


def test_colors_change_within_bounds_and_only_if_asked_for():
    data = encoded(noisy_image(size=(16, 16)), "PNG")
    plain = run(TrainTransform((16, 16), ()), data)
    np.testing.assert_array_equal(plain, run(TrainTransform((16, 16), ()), data, 5))
    for name in ("color_jitter", "lighting"):
        found = [run(TrainTransform((16, 16), (name,)), data, seed) for seed in range(9)]
        assert len({part.tobytes() for part in found}) == 9
        assert all(np.abs(pixels_of(part).mean() - pixels_of(plain).mean()) < 140 for part in found)


def test_color_jitter_equals_its_steps_one_by_one(monkeypatch):
    from gluondense.data.transforms import image as module

    rng = np.random.default_rng(4)
    image = rng.integers(0, 256, (6, 7, 3)).astype(np.uint8)
    color = module.color_jitter(np.eye(3, 4), image.mean(axis=(0, 1)), np.random.default_rng(1))
    record = np.zeros((1,), augmented_dtype((6, 7), colored=True, erased=False))
    record["pixels"], record["color"] = image, color
    (out,) = to_input(record, (0, 0, 0), (1 / 255,) * 3)

    again, luma, x = np.random.default_rng(1), np.array([0.299, 0.587, 0.114]), image.astype(float)
    strengths = again.uniform(0.6, 1.4, 3)
    for kind in again.permutation(3):
        other = (0, (x @ luma).mean(), (x @ luma)[..., None])[kind]
        x = strengths[kind] * x + (1 - strengths[kind]) * other
    np.testing.assert_allclose(out.transpose(1, 2, 0), x, atol=1e-2)


@pytest.mark.parametrize("name", _TABLE)
@pytest.mark.parametrize("sign", [1, -1])
def test_each_operation_of_rand_augment(name, sign):
    change, strength, signed = _TABLE[name]
    image = np.asarray(noisy_image(3, size=(24, 24))) - np.asarray(gradient(size=(24, 24))) // 8
    before = image.copy()
    changed = change(image, strength * sign if signed else strength)
    assert changed.shape == image.shape
    assert changed.dtype == np.uint8
    np.testing.assert_array_equal(image, before)
    assert (changed == image).all() == (name == "identity")
    assert np.abs(changed.astype(int) - image).mean() < 100


def test_rand_augment_draws_all_operations():
    image = np.asarray(noisy_image(size=(12, 12)))
    results = {rand_augment(image, np.random.default_rng(seed)).tobytes() for seed in range(200)}
    assert len(results) > 70


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: TrainTransform((8, 8), (), min_area=0),
            r"min_area \(=0\) must be in \(0, 1\]",
        ),
        (
            lambda: TrainTransform((8, 8), ("blur",)),
            "unknown augmentation 'blur'",
        ),
        (lambda: evaluation(8, 5), r"crops \(=5\) must be 1 or 10"),
        (lambda: evaluation(8, crop_ratio=1.5), r"crop_ratio \(=1\.5\)"),
        (
            lambda: evaluation(8, interpolation="area"),
            r"interpolation \(='area'\)",
        ),
    ],
)
def test_invalid_options(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def erased_box(seed, size=(40, 60)):
    """Erase a box of an image of one value; return its mask and the image."""
    record = np.zeros((1,), augmented_dtype(size, colored=False, erased=True))
    record["pixels"] = 9
    erase(record[0, ...], np.random.default_rng(seed))
    (image,) = to_input(record, (0, 0, 0), (1 / 255,) * 3)
    mask = (image != 9).any(axis=0)
    assert (mask == (image != 9).all(axis=0)).all()
    return mask, image


def test_erased_boxes_have_noise_of_unit_variance_and_leave_the_rest():
    noise = []
    for seed in range(300):
        mask, image = erased_box(seed)
        if mask.any():
            rows, columns = mask.any(axis=1), mask.any(axis=0)
            assert mask.sum() == rows.sum() * columns.sum()  # one box
            assert 0.015 * mask.size < mask.sum() < 0.36 * mask.size
            noise.append(image[:, mask])
    assert 120 < len(noise) < 180  # half of 300, with a deviation of 9
    values = np.concatenate([each.ravel() for each in noise])
    assert values.mean() == pytest.approx(0, abs=0.01)
    assert values.std() == pytest.approx(1, abs=0.01)


@pytest.mark.slow
def test_erased_boxes_have_the_distribution_of_timm():
    from support.peers import torch  # lets timm import torchvision

    erasing = pytest.importorskip("timm.data.random_erasing")
    torch.manual_seed(0)
    theirs = erasing.RandomErasing(probability=0.5, mode="pixel", device="cpu")
    expected = [(theirs(torch.full((3, 40, 60), 9.0)) != 9).any(0).numpy() for _ in range(1500)]
    found = [erased_box(seed)[0] for seed in range(1500)]

    def statistics(masks):
        boxes = [mask for mask in masks if mask.any()]
        heights = [mask.any(axis=1).sum() for mask in boxes]
        widths = [mask.any(axis=0).sum() for mask in boxes]
        return len(boxes) / len(masks), np.mean(heights), np.mean(widths), np.std(heights)

    np.testing.assert_allclose(statistics(found), statistics(expected), rtol=0.1)


def test_erasing_is_the_last_step_of_a_transform():
    data = encoded(noisy_image(size=(40, 40)))
    names = ("random_resized_crop", "flip", "color_jitter")
    changed = 0
    for seed in range(20):
        plain = run(TrainTransform((24, 24), names), data, seed)
        erased = run(TrainTransform((24, 24), (*names, "erase")), data, seed)
        share = (plain != erased).any(axis=0).mean()
        assert share < 0.4
        changed += share > 0
    assert 4 <= changed <= 16


def test_training_images_are_inverted_before_they_are_normalized():
    data = encoded(gradient(), "PNG")
    plain, inverted = (
        run(TrainTransform((16, 16), ("flip",), invert=invert), data) for invert in (False, True)
    )
    np.testing.assert_allclose(pixels_of(plain) + pixels_of(inverted), 255, atol=1e-3)
