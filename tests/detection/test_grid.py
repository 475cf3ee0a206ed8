from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from support.detectors import detector
from support.reference import images

from gluondense.detection import DetectorSpec
from gluondense.detection.decode import detect
from gluondense.detection.grid import grid


def test_the_order_is_scales_rows_columns_anchors():
    anchors = [(i, i + 1) for i in range(1, 10)]
    cells = grid(DetectorSpec(anchors=anchors), 64, 96)
    counts = {32: 2 * 3 * 3, 16: 4 * 6 * 3, 8: 8 * 12 * 3}
    expected = [
        (column, row, *anchors[3 * scale + anchor], stride)
        for scale, stride in ((2, 32), (1, 16), (0, 8))
        for row in range(64 // stride)
        for column in range(96 // stride)
        for anchor in range(3)
    ]
    assert len(cells.strides) == sum(counts.values())
    np.testing.assert_array_equal(np.column_stack(cells), np.array(expected, np.float32))


def test_sizes_are_multiples_of_32():
    with pytest.raises(ValueError, match=r"height x width \(='40x64'\) must be positive multiples"):
        grid(DetectorSpec(), 40, 64)


@pytest.mark.parametrize("fusion", ["fpn", "gfm", "efm"])
def test_decoded_raw_predictions_are_the_detections(fusion):
    net = detector(fusion)
    x = mx.nd.array(images(2, 3, 96, 64))
    cells = map(mx.nd.array, grid(net.spec, 96, 64))
    ids, scores, boxes = detect(mx.nd, net.raw(x), *cells, net.spec)
    expected = net(x)
    assert len(np.unique(scores.asnumpy().round(5))) > 20
    np.testing.assert_array_equal(ids.asnumpy(), expected[0].asnumpy())
    np.testing.assert_allclose(scores.asnumpy(), expected[1].asnumpy(), atol=1e-6)
    np.testing.assert_allclose(boxes.asnumpy(), expected[2].asnumpy(), rtol=1e-5, atol=1e-3)
