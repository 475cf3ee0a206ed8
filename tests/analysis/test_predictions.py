from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest

from gluondense.analysis.predictions import Predictions, evaluate


class IdentityNet:
    """A network whose logits are its input; it accepts full batches of 4 only."""

    def __call__(self, x):
        assert x.shape[0] == 4
        return x

    def collect_params(self):
        return mx.gluon.ParameterDict()


class FlattenNet(IdentityNet):
    def __call__(self, data):
        return data.reshape((len(data), -1))


def test_evaluate_counts_each_image_once_and_pads_the_last_batch():
    logits = np.eye(3, dtype=np.float32)[np.arange(10) % 3] * 5
    labels = np.arange(10) % 3
    labels[9] = 1
    batches = [(logits[i : i + 4], labels[i : i + 4]) for i in range(0, 10, 4)]
    found = evaluate(IdentityNet(), batches, 4, [mx.cpu()])
    assert found.top_classes.shape == (10, 3)
    np.testing.assert_allclose(found.top_probabilities.sum(axis=1), 1, rtol=1e-6)
    assert found.accuracy == pytest.approx(0.9)
    right = -np.log(np.exp(5) / (np.exp(5) + 2))
    assert found.loss == pytest.approx((9 * right + right + 5) / 10, rel=1e-5)
    assert found.misclassified().tolist() == [9]


def test_ten_crops_are_averaged_and_unreadable_images_are_excluded():
    logits = np.zeros((3, 10, 1, 1, 4), np.float32)
    logits[0, :4, ..., 2] = 3
    logits[0, 4:, ..., 1] = 1.5
    logits[1, :, ..., 3] = 2
    found = evaluate(FlattenNet(), [(logits, np.array([2, 3, -1]))], 4, [mx.cpu()])
    soft = np.exp(logits[0, :, 0, 0])
    expected = (soft / soft.sum(axis=1, keepdims=True)).mean(axis=0)
    assert found.true_probabilities[0] == pytest.approx(expected[2], rel=1e-5)
    assert found.readable.tolist() == [True, True, False]
    assert found.accuracy == (1 + (expected.argmax() == 2)) / 2
    assert found.top_accuracy(2) == 1
    assert len(found.misclassified()) == 2 - round(2 * found.accuracy)
    np.testing.assert_array_equal(np.isnan(found.recalls(4)), [True, True, False, False])


def test_loss_is_finite_for_a_true_probability_of_zero():
    assert np.isfinite(Predictions.from_probabilities(np.array([[1.0, 0.0]]), np.array([1])).loss)
