from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest

from gluondense.training.configuration.sections import TaskConfig
from gluondense.training.tasks.mix import cutmix, draw_mix, mixup


def applied(mix, images, array=np.array):
    mixed = mix.images(array(images), array(images[mix.partners]))
    return mixed.asnumpy() if isinstance(mixed, mx.nd.NDArray) else mixed


def test_mixup_blends_images_and_targets_alike():
    images = np.arange(4, dtype=np.float32)[:, None, None, None]
    mix = mixup(4, 0.4, np.random.default_rng(0))
    mixed, blended = applied(mix, images), mix.targets(np.eye(4, dtype=np.float32))
    np.testing.assert_allclose(mixed.ravel(), blended @ np.arange(4), rtol=1e-5)
    assert mixed.dtype == blended.dtype == np.float32
    assert not np.array_equal(mixed, images)
    again = mixup(4, 0.4, np.random.default_rng(0))
    np.testing.assert_array_equal(mixed, applied(again, images))


def test_cutmix_takes_the_targets_by_area():
    images = np.arange(5, dtype=np.float32)[:, None, None, None] * np.ones((1, 3, 24, 30), "f")
    shares = []
    for seed in range(40):
        mix = cutmix(5, (24, 30), 1.0, np.random.default_rng(seed))
        mixed, blended = applied(mix, images), mix.targets(np.eye(5, dtype=np.float32))
        np.testing.assert_allclose(mixed.mean(axis=(1, 2, 3)), blended @ np.arange(5), atol=1e-4)
        assert mixed.dtype == blended.dtype == np.float32
        shares.append(blended.max())
    assert min(shares) < 0.6
    assert max(shares) > 0.9


@pytest.mark.parametrize(
    "draw", [lambda rng: mixup(4, 0.4, rng), lambda rng: cutmix(4, (8, 8), 1, rng)]
)
def test_devices_mix_as_the_host_bit_for_bit(draw):
    images = np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype("f")
    for seed in range(5):
        mix = draw(np.random.default_rng(seed))
        np.testing.assert_array_equal(applied(mix, images, mx.nd.array), applied(mix, images))


@pytest.mark.parametrize("array", [np.array, mx.nd.array])
def test_an_empty_rectangle_leaves_images_and_targets(array):
    """CutMix draws one for a batch of 32 × 32 images in 256."""
    images = np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype("f")
    mix = cutmix(4, (8, 8), 1.0, np.random.default_rng(13))
    assert mix.box[0].start == mix.box[0].stop
    np.testing.assert_array_equal(applied(mix, images, array), images)
    np.testing.assert_array_equal(mix.targets(images), images)


def test_a_coin_decides_between_mixup_and_cutmix():
    images = np.zeros((4, 8, 8, 3), np.uint8)
    assert draw_mix(images, TaskConfig(), np.random.default_rng(0), 1) is None
    both = TaskConfig(mixup=1.0, cutmix=1.0)
    found = [draw_mix(images, both, np.random.default_rng(seed), 1).box for seed in range(20)]
    assert 3 < found.count(None) < 17


def test_the_last_epochs_are_not_mixed():
    config = TaskConfig(mixup=1.0, mix_off_epochs=2)
    for epochs_left in (4, 3, 2, 1):
        mix = draw_mix(np.zeros((4, 8, 8, 3)), config, np.random.default_rng(0), epochs_left)
        assert (mix is None) == (epochs_left <= 2)
