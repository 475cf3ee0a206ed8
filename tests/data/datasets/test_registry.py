from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from gluondense.data import DATASETS, load_dataset

EMBEDDED = ("digits", "synthetic")


def test_table_is_consistent():
    for name, info in DATASETS.items():
        assert info.name == name
        assert len(info.mean) == len(info.std) == info.in_channels
        assert len(set(info.class_names)) == len(info.class_names)
        assert dataclasses.asdict(info)["class_names"] == info.class_names


@pytest.mark.parametrize("name", EMBEDDED)
def test_arrays_are_as_the_table_says(name):
    arrays = load_dataset(name)
    info = arrays.info
    for images, labels in (
        (arrays.train_images, arrays.train_labels),
        (arrays.test_images, arrays.test_labels),
    ):
        assert images.dtype == np.uint8
        assert images.shape == (len(labels), *info.image_size, info.in_channels)
        assert labels.dtype == np.int32
        assert set(labels) == set(range(len(info.class_names)))
    again = load_dataset(name)
    np.testing.assert_array_equal(arrays.train_images, again.train_images)
    np.testing.assert_array_equal(arrays.test_labels, again.test_labels)


@pytest.mark.parametrize(("name", "tolerance"), [("digits", 1e-5), ("synthetic", 0.05)])
def test_mean_and_std_are_those_of_the_training_pixels(name, tolerance):
    arrays = load_dataset(name)
    pixels = arrays.train_images / 255
    assert arrays.info.mean == pytest.approx(pixels.mean(axis=(0, 1, 2)), abs=tolerance)
    deviation = pixels.std(axis=(0, 1, 2) if arrays.info.in_channels > 1 else None)
    assert arrays.info.std == pytest.approx(np.atleast_1d(deviation), abs=tolerance)


def test_digits_use_the_whole_range():
    images = load_dataset("digits").train_images
    assert images.min() == 0
    assert images.max() == 255


def test_unknown_name_gets_the_closest_one():
    with pytest.raises(ValueError, match="unknown data set 'fashion-mnist'; did you mean 'fashion"):
        load_dataset("fashion-mnist")
    with pytest.raises(ValueError, match=r"\(known: fashion_mnist, digits, cifar10, "):
        load_dataset("zzz")
    with pytest.raises(
        ValueError, match="imagenet is read from files; use `gluondense train imagenet`"
    ):
        load_dataset("imagenet")
