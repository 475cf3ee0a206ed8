# SPDX-License-Identifier: Apache-2.0
"""Detection: boxes and their classes in an image, learned by YOLOv3's loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import gluon
from mxnet.ndarray import NDArray

from ...analysis.detection.average_precision import mean_ap
from ...analysis.detection.detections import Detections
from ...analysis.detection.predict import evaluate
from ...data.datasets.registry import DatasetInfo
from ...data.detection.dataset import DetectionFiles
from ...detection.loss import PARTS, YOLOLoss
from ...detection.registry import get_detector_spec, is_detector
from ...detection.spec import STRIDES
from ...errors import check
from ..config import TrainConfig
from ..configuration.sections import TaskConfig
from ..detection_data import anchors_of, detection_preprocessing, test_loader, train_loader
from ..fine_tuning.detector import load_into_detector
from .base import Metric, Task
from .detection_report import report_arrays, report_sections

MAP = Metric("test_map", "mAP@0.5", "mAP@0.5")
_ROWS = 8  # numbers of rows of labels are multiples of it, so that few shapes occur


class Detection(Task):
    """Boxes with a class each.

    The network is trained on its raw predictions, see :class:`gluondense.detection.loss.YOLOLoss`,
    and evaluated by its detections. The loss in the log is the sum of its parts: boxes, objectness
    and classes, per image.

    Raises
    ------
    ValueError
        If the model is no detector, or a field of the configuration is for classification.
    """

    loss_parts = tuple(
        Metric(f"train_{part}", f"{part} loss", part, ".3f", False, total=f"{part}_sum")
        for part in PARTS
    )
    train_metrics = (
        Metric("train_loss", "loss", "loss", ".3f", higher_is_better=False, total="loss_sum"),
        *loss_parts,
    )
    test_metrics = (MAP, Metric("test_map75", "mAP@0.75", detail=True))
    best = MAP
    evaluate = staticmethod(evaluate)
    report_arrays = staticmethod(report_arrays)
    report_sections = staticmethod(report_sections)
    preprocessing = staticmethod(detection_preprocessing)
    train_loader = staticmethod(train_loader)
    test_loader = staticmethod(test_loader)
    load_initial_weights = staticmethod(load_into_detector)

    def __init__(
        self, config: TaskConfig, info: DatasetInfo, devices: Sequence[mx.Context]
    ) -> None:
        for name in ("teacher", "cutmix", "mixup"):
            value = getattr(config, name)
            if value:
                hint = "add mixup to `augment`" if name == "mixup" else "leave it out"
                raise ValueError(f"`{name}` (={value}) is not for detection: {hint}.")
        self._config = config

    @staticmethod
    def network_fields(config: TrainConfig, data: DetectionFiles) -> dict[str, Any]:
        """Return class names and input size, and unless they are given, the anchors."""
        if not is_detector(config.model.name):
            raise ValueError(
                f"`model` {config.model.name} is no detector: give one such as "
                f"yolo3_efm_{config.model.name}_custom."
            )
        get_detector_spec(config.model.name)
        if config.data.cache_features:
            raise ValueError("`cache_features` is for classification: leave it out.")
        size, args = config.data.input_size[0], config.model.args
        check("resize", size, f"a multiple of {STRIDES[-1]}", size % STRIDES[-1] == 0)
        if "input_size" in args:
            raise ValueError("`input_size` of the model follows from `resize`: leave it out.")
        fields: dict[str, Any] = {"classes": data.info.class_names, "input_size": size}
        if config.data.anchors == "auto" and "anchors" not in args:
            fields["anchors"] = anchors_of(config.data, data)
        return fields

    @staticmethod
    def trained_block(net: Any) -> gluon.HybridBlock:
        """Return the network without decoding and suppression."""
        return net.raw

    @staticmethod
    def is_output(parameter: str) -> bool:
        """Return whether a parameter is one of the neck or of the predictions."""
        return not parameter.startswith("backbone.")

    def attach(self, net: Any) -> None:
        """Make the loss for the anchors of the network."""
        config = self._config
        options = (config.box_loss, config.ignore, config.label_smoothing)
        self.loss = YOLOLoss(net.spec, *options, config.match, config.box_weight)

    def targets(
        self, images: np.ndarray, labels: np.ndarray, rng: np.random.Generator, epochs_left: int
    ) -> tuple[None, np.ndarray]:
        """Return the labels (N, M, 6) with as few rows as all boxes need, in eights."""
        used = int((labels[:, :, 4] >= 0).sum(axis=1).max(initial=1))
        return None, labels[:, : -(-max(used, 1) // _ROWS) * _ROWS]

    def measure(self, loss: NDArray, output: NDArray, target: NDArray) -> NDArray:
        """Return the sum of the loss, and of each of its parts."""
        return mx.nd.concat(loss.sum().reshape((1,)), loss.sum(axis=0), dim=0)

    def metrics(self, predictions: Detections) -> dict[str, float]:
        """Return the mean average precision on the test set at IoU 0.5 and 0.75."""
        return {
            "test_map": mean_ap(predictions, 0.5),
            "test_map75": mean_ap(predictions, 0.75),
        }
