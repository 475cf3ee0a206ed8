from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon

from gluondense.analysis.detection.predict import evaluate, to_original

SIZE, BOXES = 8, 3


class Pixels(gluon.HybridBlock):
    """A "detector" whose boxes are pixels of the image: it tells which image it got, and how."""

    def hybrid_forward(self, F, x):
        rows = F.reshape(F.slice_axis(F.transpose(x, (0, 2, 3, 1)), 1, 0, 2), (0, -1, 6))
        rows = F.slice_axis(rows, 1, 0, BOXES)
        return (
            F.slice_axis(rows, 2, 0, 1),
            F.slice_axis(rows, 2, 1, 2),
            F.slice_axis(rows, 2, 2, 6),
        )


def example():
    """Return two batches, the second of one image, and the boxes of the three images."""
    found = np.full((3, BOXES, 6), -1, np.float32)
    found[0, 0] = 4, 20, 1, 2, 3, 4
    found[1, 0] = 1, 10, 0, 0, 8, 8
    found[1, 2] = 2, 30, 2, 2, 6, 9  # not sorted
    images = np.zeros((3, SIZE, SIZE, 3), np.float32)
    images.reshape(3, -1)[:, : BOXES * 6] = found.reshape(3, -1)
    labels = np.full((3, 3, 6), -1, np.float32)
    labels[0, :2] = (16, 16, 0.5, 0.5, 0, 0), (0, 0, 5, 5, 1, 0)
    labels[1, 0] = 40, 20, 0.2, 0.2, 0, 2
    return [(images[:2], labels[:2]), (images[2:], labels[2:])]


@pytest.mark.parametrize("devices", [1, 2])
def test_boxes_are_in_pixels_of_the_images_sorted_and_clipped(devices):
    net = Pixels()
    net.hybridize(static_alloc=True, static_shape=True)
    contexts = [mx.cpu(index) for index in range(devices)]
    batches = [(images.transpose(0, 3, 1, 2), labels) for images, labels in example()]
    found = evaluate(net, batches, 2, contexts)
    assert found.detections.shape == (3, BOXES, 6)
    np.testing.assert_allclose(found.detections[0, 0], (4, 20, 2, 4, 6, 8))
    np.testing.assert_allclose(found.detections[1, 0], (2, 30, 10, 0, 30, 20), rtol=1e-6)
    np.testing.assert_allclose(found.detections[1, 1], (1, 10, 0, 0, 40, 20))
    assert (found.detections[0, 1:] == -1).all()
    assert (found.detections[2] == -1).all()
    assert found.truth[0, 0].tolist() == [0, 0, 5, 5, 1, 0]
    assert found.readable.tolist() == [True, True, False]


def test_boxes_as_large_as_floats_are_clipped():
    largest = np.finfo(np.float32).max
    found = np.array([[[0, 0.5, -largest, -largest, largest, largest]]], np.float32)
    placements = np.array([[640, 480, 0.25, 0.25, 0, 0]], np.float32)
    assert to_original(found, placements)[0, 0, 2:].tolist() == [0, 0, 640, 480]
