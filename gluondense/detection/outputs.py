# SPDX-License-Identifier: Apache-2.0
"""GluonCV's output of a scale, and the initial values of its predictions."""

from __future__ import annotations

import math
import warnings
from typing import Any

import mxnet as mx
from mxnet.gluon import nn
from mxnet.ndarray import NDArray

from ..environment.process import import_gluoncv
from .spec import ANCHORS_PER_SCALE, STRIDES

CELLS = 128  # rows and columns for which GluonCV's outputs store the cells' offsets
MAX_SIZE = CELLS * STRIDES[0]

gluoncv_yolo: Any = import_gluoncv().model_zoo.yolo.yolo3


@mx.init.register
class RareObjects(mx.init.Initializer):
    """Initial predictions: small weights, and a probability of 0.01 that a cell has an object.

    GluonCV's are uniform and begin with a probability of 0.5 everywhere, so that the first steps
    of training learn only that objects are rare.

    Parameters
    ----------
    classes
        Number of classes.

    References
    ----------
    Lin et al., "Focal Loss for Dense Object Detection", section 4.1, "Initialization".
    """

    PROBABILITY = 0.01
    STD = 0.01

    def __init__(self, classes: int = 1) -> None:
        super().__init__(classes=classes)
        self.classes = classes

    def _init_weight(self, name: str, arr: NDArray) -> None:
        if len(arr.shape) == 4:
            mx.random.normal(0, self.STD, shape=arr.shape, out=arr)
            return
        bias = mx.nd.zeros((arr.size // (5 + self.classes), 5 + self.classes), arr.context)
        bias[:, 4] = math.log(self.PROBABILITY / (1 - self.PROBABILITY))
        arr[:] = bias.reshape((-1,))


def make_output(
    index: int, in_channels: int, classes: int, anchors: Any, stride: int
) -> nn.HybridBlock:
    """Return GluonCV's output of a scale, with the shape and the initial values of its weights."""
    with warnings.catch_warnings():
        # MXNet names a constant by its address, which may be that of a deleted network's.
        warnings.filterwarnings("ignore", ".*New initializer")
        place: dict[str, Any] = {"alloc_size": (CELLS, CELLS), "prefix": f"stride{stride}_"}
        layer = gluoncv_yolo.YOLOOutputV3(index, classes, anchors, stride, **place)
    channels = ANCHORS_PER_SCALE * (5 + classes)
    with layer.name_scope():
        layer.prediction = nn.Conv2D(
            channels,
            1,
            in_channels=in_channels,
            weight_initializer=RareObjects(classes),
            bias_initializer=RareObjects(classes),
            prefix="prediction_",
        )
    return layer
