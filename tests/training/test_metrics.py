from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest

from gluondense.analysis.predictions import Evaluation, evaluate
from gluondense.training.labels import cutmix, mix, mixup, soft_labels
from gluondense.training.metrics import Meter


def test_meter_counts_all_devices_and_steps():
    meter = Meter()
    targets = mx.nd.array([[1, 0], [0, 1]])
    logits = mx.nd.array([[2, 1], [2, 1]])
    for step in range(1, 6):
        meter.add(step, [mx.nd.array([1, 2])] * 2, [logits] * 2, [targets] * 2)
    meter.sync()
    assert (meter.loss, meter.accuracy, meter.images) == (1.5, 0.5, 20)


def test_meter_names_the_first_step_that_is_not_finite():
    meter = Meter()
    one = mx.nd.ones((1, 2))
    for step, loss in enumerate([1.0, 1.0, np.nan, np.nan], start=1):
        meter.add(step, [mx.nd.array([loss])], [one], [one])
    with pytest.raises(FloatingPointError, match="became nan at step 3"):
        meter.sync()
    assert (meter.images, meter.loss) == (2, 1.0)


class Twice:
    """A network whose logits are its input, and which refuses any but full batches."""

    def __call__(self, x):
        assert x.shape[0] == 4
        return x

    def collect_params(self):
        return mx.gluon.ParameterDict()


class Flat(Twice):
    def __call__(self, data):
        return data.reshape((len(data), -1))


def test_evaluate_counts_each_image_once_and_pads_the_last_batch():
    logits = np.eye(3, dtype=np.float32)[np.arange(10) % 3] * 5
    labels = np.arange(10) % 3
    labels[9] = 1
    batches = [(logits[i : i + 4], labels[i : i + 4]) for i in range(0, 10, 4)]
    found = evaluate(Twice(), batches, 4, [mx.cpu()])
    assert found.top_classes.shape == (10, 3)
    np.testing.assert_allclose(found.top_probabilities.sum(axis=1), 1, rtol=1e-6)
    assert found.accuracy == pytest.approx(0.9)
    right = -np.log(np.exp(5) / (np.exp(5) + 2))
    assert found.loss == pytest.approx((9 * right + right + 5) / 10, rel=1e-5)
    assert found.mistakes().tolist() == [9]


def test_ten_crops_are_averaged_and_unreadable_images_left_out():
    logits = np.zeros((3, 10, 1, 1, 4), np.float32)
    logits[0, :4, ..., 2] = 3
    logits[0, 4:, ..., 1] = 1.5
    logits[1, :, ..., 3] = 2
    found = evaluate(Flat(), [(logits, np.array([2, 3, -1]))], 4, [mx.cpu()])
    soft = np.exp(logits[0, :, 0, 0])
    expected = (soft / soft.sum(axis=1, keepdims=True)).mean(axis=0)
    assert found.true_probabilities[0] == pytest.approx(expected[2], rel=1e-5)
    assert found.seen.tolist() == [True, True, False]
    assert found.accuracy == (1 + (expected.argmax() == 2)) / 2
    assert found.top_accuracy(2) == 1
    assert len(found.mistakes()) == 2 - round(2 * found.accuracy)
    np.testing.assert_array_equal(np.isnan(found.recalls(4)), [True, True, False, False])


def test_evaluation_of_a_certain_mistake_has_a_finite_loss():
    assert np.isfinite(Evaluation.of(np.array([[1.0, 0.0]]), np.array([1])).loss)


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
