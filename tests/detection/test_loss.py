# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluondense.detection.grid import grid
from gluondense.detection.loss import YOLOLoss
from gluondense.detection.spec import COCO_ANCHORS as ANCHORS
from gluondense.detection.spec import DetectorSpec
from gluondense.environment.process import import_gluoncv

SPEC = DetectorSpec(classes=4)
SIZE = 96
PLACES = 63 * (SIZE // 32) ** 2
STRIDES = (32, 16, 8)


def draw_labels(rng, images=3, boxes=7):
    """Draw boxes of all sizes, of which some have the same place, and leave some rows without."""
    low = rng.uniform(0, SIZE - 6, (images, boxes, 2))
    high = np.minimum(low + np.exp(rng.uniform(1, 4.5, (images, boxes, 2))), SIZE)
    rest = rng.integers(0, SPEC.classes, (images, boxes)), rng.uniform(0.2, 1, (images, boxes))
    labels = np.concatenate([low, high, np.stack(rest, 2)], 2)
    labels[:, 3] = labels[:, 1] + [0.25, 0.25, 0.25, 0.25, 0, 0]  # replaces an earlier one
    labels[:, 3, 4] = (labels[:, 1, 4] + 1) % SPEC.classes
    labels[0, 5:] = labels[1, 2:] = -1
    return labels.astype(np.float32)


def draw_raw(rng, images=3):
    return rng.normal(size=(images, PLACES, 5 + SPEC.classes)).astype(np.float32)


def gluoncv_parts(raw, labels, ignore, smooth, heads=None):
    """Return objectness, center, scale and class loss of GluonCV, and the network's outputs."""
    import_gluoncv()
    from gluoncv.loss import YOLOV3Loss
    from gluoncv.model_zoo.yolo.yolo_target import (
        YOLOV3PrefetchTargetGenerator,
        YOLOV3TargetMerger,
    )

    sides = [SIZE // stride for stride in STRIDES]
    maps = [mx.nd.zeros((1, 1, side, side)) for side in sides]
    anchors = [mx.nd.array(ANCHORS[at : at + 3]).reshape((1, 1, 3, 2)) for at in (6, 3, 0)]
    offsets = [mx.nd.zeros((1, side * side, 1, 2)) for side in sides]
    boxes, ids, share = (mx.nd.array(part) for part in np.split(labels, (4, 5), axis=2))
    image = mx.nd.zeros((1, 3, SIZE, SIZE))
    fixed = YOLOV3PrefetchTargetGenerator(SPEC.classes)(
        image, maps, anchors, offsets, boxes, ids, share
    )
    cells, sizes, strides = grid(SPEC, SIZE, SIZE)
    center = (1 / (1 + np.exp(-raw[..., :2])) + cells) * strides[:, None]
    half = np.exp(raw[..., 2:4]) * sizes / 2
    predicted = mx.nd.array(np.concatenate([center - half, center + half], 2))
    merger = YOLOV3TargetMerger(SPEC.classes, ignore)
    merger._label_smooth = smooth
    targets = merger(predicted, boxes, *fixed)
    heads = heads or [mx.nd.array(part) for part in np.split(raw, (2, 4, 5), axis=2)]
    return YOLOV3Loss()(heads[2], heads[0], heads[1], heads[3], *targets), heads


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ignore", [0.3, 0.7])
@pytest.mark.parametrize("smooth", [False, True])
def test_loss_is_gluoncvs(seed, ignore, smooth):
    rng = np.random.default_rng(seed)
    labels, raw = draw_labels(rng), draw_raw(rng)
    (objectness, center, scale, by_class), _ = gluoncv_parts(raw, labels, ignore, smooth)
    smoothing = min(1 / SPEC.classes, 1 / 40) if smooth else 0.0
    loss = YOLOLoss(SPEC, ignore=ignore, label_smoothing=smoothing)
    found = loss(mx.nd.array(raw), mx.nd.array(labels)).asnumpy()
    expected = mx.nd.stack(center + scale, objectness, by_class, axis=1).asnumpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("match", [1.0, 0.3])
@pytest.mark.parametrize("box_loss", ["giou", "ciou"])
def test_box_losses_and_gradients_are_those_of_pytorch(box_loss, match):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    labels, raw = draw_labels(rng), draw_raw(rng)
    labels[..., 2:4] = np.maximum(labels[..., 2:4], labels[..., :2] + 2) * (labels[..., 4:5] >= 0)
    labels[labels[..., 4] < 0] = -1
    x = mx.nd.array(raw)
    x.attach_grad()
    with autograd.record():
        parts = YOLOLoss(SPEC, box_loss, match=match, box_weight=2)(x, mx.nd.array(labels))
        box = parts.slice_axis(1, 0, 1).sum()
    box.backward()
    y = torch.tensor(raw, dtype=torch.float64, requires_grad=True)
    expected = 2 * torch_box_loss(torch, y, labels, box_loss, match)
    expected.sum().backward()
    found = parts.asnumpy()[:, 0]
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-5)
    np.testing.assert_allclose(x.grad.asnumpy(), y.grad.numpy(), rtol=1e-4, atol=1e-5)
    assert np.abs(y.grad.numpy()).max() > 0.1


def torch_box_loss(torch, raw, labels, box_loss, match):
    """Return the loss of the boxes, one after the other, from the papers' formulas."""
    cells, anchors, strides = (torch.tensor(part) for part in grid(SPEC, SIZE, SIZE))
    losses = torch.zeros(len(labels), dtype=torch.float64)
    for image, rows in enumerate(labels):
        for place, (*box, _, weight) in assign(rows, match).items():
            t = raw[image, place]
            center = (torch.sigmoid(t[:2]) + cells[place]) * strides[place]
            half = torch.exp(t[2:4]) * anchors[place] / 2
            predicted, true = torch.cat([center - half, center + half]), torch.tensor(box)
            weight *= 2 - (box[2] - box[0]) * (box[3] - box[1]) / SIZE**2
            losses[image] = losses[image] + weight * torch_pair(torch, predicted, true, box_loss)
    return losses


def assign(rows, match):
    """Return the label at each place that has one, from the definition."""
    cells, anchors, strides = grid(SPEC, SIZE, SIZE)
    found = {}
    for best in (False, True):  # the best anchor of a box replaces another one's further anchor
        for row in rows[rows[:, 4] >= 0].tolist():
            width, height = row[2] - row[0], row[3] - row[1]
            shared = np.minimum(ANCHORS, [width, height]).prod(1)
            fit = shared / (np.prod(ANCHORS, 1) + width * height - shared)
            chosen = [np.argmax(fit)] if best else np.flatnonzero(fit > match)
            center = np.array([row[0] + row[2], row[1] + row[3]]) / 2
            inside = (np.floor(center / strides[:, None]) == cells).all(1)
            for anchor in chosen:
                (place,) = np.flatnonzero(inside & (anchors == ANCHORS[anchor]).all(1))
                found[place] = row
    return found


@pytest.mark.parametrize("match", [1.0, 0.5, 0.2, 0.0])
def test_objectness_is_learned_where_an_anchor_fits(match):
    labels = draw_labels(np.random.default_rng(3))
    raw = mx.nd.zeros((3, PLACES, 5 + SPEC.classes))
    raw.attach_grad()
    with autograd.record():
        YOLOLoss(SPEC, match=match, ignore=1.0)(raw, mx.nd.array(labels)).backward()
    gradient = raw.grad.asnumpy()
    for image, rows in enumerate(labels):
        expected = assign(rows, match)
        assert set(np.flatnonzero(gradient[image, :, 4] < 0)) == set(expected)
        classes = {place: int(gradient[image, place, 5:].argmin()) for place in expected}
        assert classes == {place: int(row[4]) for place, row in expected.items()}


def torch_pair(torch, predicted, true, box_loss):
    """Return 1 - GIoU or 1 - CIoU of two boxes."""
    size = torch.clamp(torch.minimum(predicted, true)[2:] - torch.maximum(predicted, true)[:2], 0)
    around = torch.maximum(predicted, true)[2:] - torch.minimum(predicted, true)[:2]
    areas = [(box[2:] - box[:2]).prod() for box in (predicted, true)]
    union = sum(areas) - size.prod()
    iou = size.prod() / union
    if box_loss == "giou":
        return 1 - iou + (around.prod() - union) / around.prod()
    centers = [(box[:2] + box[2:]) / 2 for box in (predicted, true)]
    distance = ((centers[0] - centers[1]) ** 2).sum() / (around**2).sum()
    aspects = [torch.atan((box[2] - box[0]) / (box[3] - box[1])) for box in (predicted, true)]
    v = 4 / math.pi**2 * (aspects[0] - aspects[1]) ** 2
    return 1 - iou + distance + (v / (1 - iou + v)).detach() * v


def test_gradient_is_gluoncvs():
    rng = np.random.default_rng(5)
    labels, raw = draw_labels(rng), draw_raw(rng)
    x = mx.nd.array(raw)
    x.attach_grad()
    with autograd.record():
        YOLOLoss(SPEC)(x, mx.nd.array(labels)).backward()
    _, heads = gluoncv_parts(raw, labels, 0.7, False)
    for head in heads:
        head.attach_grad()
    with autograd.record():
        losses = gluoncv_parts(raw, labels, 0.7, False, heads)[0]
        sum(loss.sum() for loss in losses).backward()
    objectness, center, scale, by_class = (
        head.grad.asnumpy() for head in (heads[2], *heads[:2], heads[3])
    )
    expected = np.concatenate([center, scale, objectness, by_class], 2)
    np.testing.assert_allclose(x.grad.asnumpy(), expected, rtol=1e-4, atol=1e-6)


def test_labels_without_a_box_change_nothing():
    rng = np.random.default_rng(1)
    labels, raw = draw_labels(rng), mx.nd.array(draw_raw(rng))
    more = np.concatenate([labels, np.full((3, 40, 6), -1, np.float32)], axis=1)
    for name in ("l1", "giou", "ciou"):
        loss = YOLOLoss(SPEC, name)
        found = loss(raw, mx.nd.array(more)).asnumpy()
        np.testing.assert_allclose(found, loss(raw, mx.nd.array(labels)).asnumpy(), rtol=1e-6)
    empty = loss(raw, mx.nd.full((3, 1, 6), -1)).asnumpy()
    np.testing.assert_array_equal(empty[:, [0, 2]], 0)
    assert empty[:, 1].min() > 0


def test_outputs_of_another_form_are_refused():
    with pytest.raises(ValueError, match="62 places are not those of a square image"):
        YOLOLoss(SPEC)(mx.nd.zeros((1, 62, 9)), mx.nd.full((1, 1, 6), -1))
    with pytest.raises(ValueError, match="box_loss"):
        YOLOLoss(SPEC, "l2")
