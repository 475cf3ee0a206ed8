# SPDX-License-Identifier: Apache-2.0
"""A detector's detections in all images of a data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Optional

import mxnet as mx
import numpy as np
from mxnet import gluon

from ...data.loaders.to_input import ToInput
from ..predictions import restore_layout
from .detections import Detections


def evaluate(
    net: gluon.HybridBlock,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    batch_size: int,
    devices: Sequence[mx.Context],
    to_input: Optional[ToInput] = None,
) -> Detections:
    """Run a detector on all batches, and return its boxes in the pixels of the original images.

    Parameters
    ----------
    net
        Returns class indices (N, K, 1), scores (N, K, 1) and boxes (N, K, 4) in input pixels, as
        GluonCV's detectors.
    batches
        Images, and labels (N, 1 + M, 6): a row with the placement of the image, then its true
        boxes, both as in :class:`.Detections`.
    batch_size
        Images of a batch over all devices. A smaller one is padded to it, so that the static graph
        keeps one shape.
    devices
        Devices among which each batch is split.
    to_input
        Makes the network's input; by default the images are the input.
    """
    return Detections.concatenate(list(_parts(net, batches, batch_size, devices, to_input)))


def _parts(
    net: gluon.HybridBlock,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    batch_size: int,
    devices: Sequence[mx.Context],
    to_input: Optional[ToInput],
) -> Iterator[Detections]:
    pending, to_input = None, to_input or ToInput()
    for images, labels in batches:
        labels = labels.copy()  # a loader may reuse its memory for the next batch
        missing = batch_size - len(images)
        if missing > 0:
            images = np.concatenate([images, np.repeat(images[-1:], missing, axis=0)])
        shares = gluon.utils.split_data(images, len(devices), even_split=False)
        inputs = [to_input(share, device) for share, device in zip(shares, devices)]
        # New arrays: a static graph may reuse the memory of its outputs.
        outputs = [mx.nd.concat(*net(x), dim=2).astype("float32") for x in inputs]
        # Fetch the previous batch while the devices compute this one.
        if pending is not None:
            yield _fetch(*pending)
        pending = outputs, labels
    if pending is not None:
        yield _fetch(*pending)
    restore_layout(net, devices)


def _fetch(shares: Sequence[mx.nd.NDArray], labels: np.ndarray) -> Detections:
    found = np.concatenate([share.asnumpy() for share in shares])[: len(labels)]
    placements, truth = labels[:, 0], labels[:, 1:]
    return Detections(to_original(found, placements), truth, placements)


def to_original(found: np.ndarray, placements: np.ndarray) -> np.ndarray:
    """Return detections in the pixels of the original images, clipped to them, sorted by score.

    ``found`` are class index, score and box in input pixels, (N, K, 6); ``placements`` as in
    :class:`.Detections`.

    Examples
    --------
    >>> placements = np.array([[640, 480, 0.5, 0.5, 0, 40]])
    >>> to_original(np.array([[[1, 0.9, 10, 60, 400, 140]]]), placements).tolist()
    [[[1.0, 0.9, 20.0, 40.0, 640.0, 200.0]]]
    """
    limits, scale, offset = (np.tile(placements[:, None, at : at + 2], 2) for at in (0, 2, 4))
    with np.errstate(over="ignore"):  # in the first epochs a box may be as large as floats are
        boxes = (found[..., 2:] - offset) / scale
    boxes = np.clip(boxes, 0, np.maximum(limits, 0))
    found = np.concatenate([found[..., :2], boxes], axis=2)
    found[found[..., 0] < 0] = -1
    order = np.argsort(-found[..., 1], axis=1, kind="stable")
    return np.take_along_axis(found, order[..., None], axis=1)
