from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest

from gluondense.data.transforms.batch import AUGMENTATIONS, crop, erase, flip, normalize, resize


def random_images(*shape: int) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("source", "target"),
    [
        ((28, 28), (96, 96)),
        ((28, 28), (32, 32)),
        ((32, 32), (28, 28)),
        ((32, 32), (16, 16)),
        ((8, 8), (32, 32)),
        ((28, 30), (41, 19)),
    ],
)
def test_resize_gives_the_bytes_of_mxnet(source, target, channels):
    batch = random_images(20, *source, channels)
    transform = mx.gluon.data.vision.transforms.Resize((target[1], target[0]))
    expected = np.stack([transform(mx.nd.array(image, dtype="uint8")).asnumpy() for image in batch])
    np.testing.assert_array_equal(resize(batch, target), expected)


def test_resize_to_the_same_size_changes_nothing():
    batch = random_images(2, 9, 7, 3)
    np.testing.assert_array_equal(resize(batch, (9, 7)), batch)


@pytest.mark.parametrize("channels", [1, 3])
def test_normalize_equals_mxnet_to_tensor_and_normalize(channels):
    batch = random_images(4, 9, 7, channels)
    mean, std = (0.28604, 0.5, 0.4)[:channels], (0.35302, 0.2, 0.3)[:channels]
    data = normalize(batch, mean, std)
    transforms = mx.gluon.data.vision.transforms
    expected = transforms.Normalize(mean, std)(
        transforms.ToTensor()(mx.nd.array(batch, dtype="uint8"))
    )
    assert data.dtype == np.float32
    assert data.flags.c_contiguous
    np.testing.assert_allclose(data, expected.asnumpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentation_is_a_function_of_its_random_stream(name):
    batch = random_images(32, 28, 20, 3)
    before = batch.copy()
    first, again, other = (
        AUGMENTATIONS[name](batch, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert first.shape == batch.shape
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    np.testing.assert_array_equal(batch, before)


def test_flip_mirrors_about_half_of_the_images():
    batch = random_images(1000, 4, 5, 1)
    flipped = flip(batch, np.random.default_rng(0))
    mirrored = np.array([(a == b[:, ::-1]).all() for a, b in zip(flipped, batch)])
    same = np.array([(a == b).all() for a, b in zip(flipped, batch)])
    assert (mirrored | same).all()
    assert 400 < mirrored.sum() < 600


def test_crop_shifts_by_up_to_the_padding_and_fills_with_black():
    batch = np.zeros((2000, 32, 32, 1), np.uint8)
    batch[:, 16, 16] = 255
    rows, columns = np.nonzero(crop(batch, np.random.default_rng(0))[..., 0])[1:]
    assert len(rows) == len(batch)
    assert set(rows) == set(columns) == set(range(12, 21))
    white = crop(np.full((2000, 28, 28, 1), 255, np.uint8), np.random.default_rng(0))
    assert (white == 0).any()
    assert (white[:, 3:-3, 3:-3] == 255).all()


def test_crop_moves_whole_images():
    batch = random_images(50, 16, 16, 3)
    for before, after in zip(batch, crop(batch, np.random.default_rng(0))):
        padded = np.pad(before, ((2, 2), (2, 2), (0, 0)))
        shifts = [padded[y : y + 16, x : x + 16] for y in range(5) for x in range(5)]
        assert any((after == shift).all() for shift in shifts)


def test_erase_replaces_one_rectangle_of_about_half_of_the_images():
    batch = np.zeros((1000, 28, 28, 1), np.uint8)
    changed = (erase(batch, np.random.default_rng(0)) != 0)[..., 0]
    touched = changed.any(axis=(1, 2))
    assert 400 < touched.sum() < 600
    for mask in changed[touched]:
        rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
        inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        # Noise may hit the old value, one pixel in 256.
        assert inside.mean() > 0.8
        assert inside.size <= 0.5 * 28 * 28
