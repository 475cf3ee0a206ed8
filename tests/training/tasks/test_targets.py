from __future__ import annotations

import numpy as np

from gluondense.training.configuration.sections import TaskConfig
from gluondense.training.tasks.targets import cutmix, mix, mix_epoch, mixup, soft_labels


def test_soft_labels_sum_to_one_and_keep_the_class():
    rows = soft_labels(np.array([2, 0]), 5, 0.1)
    np.testing.assert_allclose(rows.sum(axis=1), 1, rtol=1e-6)
    assert rows.argmax(axis=1).tolist() == [2, 0]
    assert rows.dtype == np.float32


def test_mixup_blends_images_and_targets_alike():
    images = np.arange(4, dtype=np.float32)[:, None, None, None]
    targets = np.eye(4, dtype=np.float32)
    mixed, blended = mixup(images, targets, 0.4, np.random.default_rng(0))
    np.testing.assert_allclose(mixed.ravel(), blended @ np.arange(4), rtol=1e-5)
    assert mixed.dtype == blended.dtype == np.float32
    again = mixup(images, targets, 0.4, np.random.default_rng(0))
    np.testing.assert_array_equal(mixed, again[0])


def test_cutmix_takes_the_targets_by_area():
    images = np.arange(5, dtype=np.float32)[:, None, None, None] * np.ones((1, 3, 24, 30), "f")
    targets = np.eye(5, dtype=np.float32)
    shares = []
    for seed in range(40):
        mixed, blended = cutmix(images, targets, 1.0, np.random.default_rng(seed))
        np.testing.assert_allclose(mixed.mean(axis=(1, 2, 3)), blended @ np.arange(5), atol=1e-4)
        assert mixed.dtype == blended.dtype == np.float32
        shares.append(blended.max())
    assert min(shares) < 0.6
    assert max(shares) > 0.9


def test_a_coin_decides_between_mixup_and_cutmix():
    images, targets = np.random.rand(4, 3, 8, 8).astype("f"), np.eye(4, dtype=np.float32)
    same = mix(images, targets, (0, 0), np.random.default_rng(0))
    assert same[0] is images
    kinds = set()
    for seed in range(20):
        mixed, _ = mix(images, targets, (1.0, 1.0), np.random.default_rng(seed))
        kinds.add(bool(np.isin(mixed, images).all()))
    assert kinds == {True, False}


def test_the_last_epochs_are_not_mixed():
    images, targets = np.random.rand(4, 3, 8, 8).astype("f"), np.eye(4, dtype=np.float32)
    config = TaskConfig(mixup=1.0, mix_off_epochs=2)
    for epochs_left in (4, 3, 2, 1):
        rng = np.random.default_rng(0)
        mixed, _ = mix_epoch(images, targets, config, rng, epochs_left)
        assert (mixed is images) == (epochs_left <= 2)
