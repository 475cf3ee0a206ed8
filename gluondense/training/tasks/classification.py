# SPDX-License-Identifier: Apache-2.0
"""Classification: one class per image, learned by cross-entropy or from a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional, Union

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from mxnet.ndarray import NDArray

from ...analysis.predictions import Predictions, evaluate
from ...data.datasets.registry import DatasetInfo
from ..configuration.sections import TaskConfig
from .base import Metric, Task
from .classification_report import explain, report_arrays, report_sections
from .distillation import DistillationLoss, load_teacher
from .mix import Mix, draw_mix
from .targets import soft_labels

ACCURACY = Metric("test_acc", "accuracy", "test")


class Classification(Task):
    """One class per image.

    Targets are distributions over the classes, with label smoothing, mixup and CutMix; the loss is
    the cross-entropy, or with a teacher the distillation loss. ``class_weights`` multiply the
    target of each class, as PyTorch's ``CrossEntropyLoss(weight=…)``; unlike there, a batch's loss
    is divided by its images, not by their weights. Raises as :func:`load_teacher`.
    """

    train_metrics = (
        Metric("train_loss", "loss", "loss", ".4f", higher_is_better=False, total="loss_sum"),
        Metric("train_acc", "accuracy", "train", total="hits"),
    )
    test_metrics = (
        ACCURACY,
        Metric("test_loss", "loss", format=".4f", higher_is_better=False),
        Metric("test_top5", "top-5 accuracy", detail=True),
    )
    best = ACCURACY
    evaluate = staticmethod(evaluate)
    report_arrays = staticmethod(report_arrays)
    explain = staticmethod(explain)
    report_sections = staticmethod(report_sections)

    def __init__(
        self, config: TaskConfig, info: DatasetInfo, devices: Sequence[mx.Context]
    ) -> None:
        self._config, self._classes = config, len(info.class_names)
        self._teacher = None
        weights = _class_weights(config.class_weights, self._classes)
        self._weights = {device: mx.nd.array([weights], device) for device in devices if weights}
        self.loss = gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=False)
        if config.teacher is not None:
            self._teacher = load_teacher(config.teacher, devices, self._classes)
            self.loss = DistillationLoss(self._classes, config.temperature, config.hard_weight)

    def targets(
        self, images: np.ndarray, labels: np.ndarray, rng: np.random.Generator, epochs_left: int
    ) -> tuple[Optional[Mix], np.ndarray]:
        """Return class distributions (N, classes), mixed as the images are if configured."""
        config = self._config
        targets = soft_labels(labels, self._classes, config.label_smoothing)
        mix = draw_mix(images, config, rng, epochs_left)
        return mix, targets if mix is None else mix.targets(targets)

    def loss_targets(self, images: Sequence[NDArray], targets: Sequence[NDArray]) -> list[NDArray]:
        """Return weighted targets, and with them the teacher's softened probabilities if any.

        The shape is (N, classes), or (N, 2 * classes) with a teacher.
        """
        if self._weights:
            targets = [target * self._weights[target.context] for target in targets]
        if self._teacher is None:
            return list(targets)
        with autograd.predict_mode():
            logits = [self._teacher(image) / self._config.temperature for image in images]
        return [mx.nd.concat(*pair, dim=1) for pair in zip(targets, map(mx.nd.softmax, logits))]

    def measure(self, loss: NDArray, output: NDArray, target: NDArray) -> NDArray:
        """Return the sum of the loss and the number of images classified as their target."""
        hits = output.argmax(axis=1) == target.argmax(axis=1)
        return mx.nd.stack(loss.sum(), hits.sum())

    def metrics(self, predictions: Predictions) -> dict[str, float]:
        """Return accuracy, loss and top-5 accuracy on the test set.

        Raises a ValueError if no image of it could be read.
        """
        if not predictions.readable.any():
            raise ValueError(
                f"none of the {len(predictions.labels)} validation images can be read, so the "
                "network can't be evaluated: repair them, then `resume`, or give other data."
            )
        return {
            "test_acc": predictions.accuracy,
            "test_loss": predictions.loss,
            "test_top5": predictions.top_accuracy(5),
        }


def _class_weights(
    weights: Union[str, tuple[float, ...]], classes: int
) -> Optional[tuple[float, ...]]:
    """Return the weights if they are numbers, one for each class; None for equal weights."""
    if isinstance(weights, str):
        return None
    if len(weights) != classes:
        raise ValueError(
            f"`class_weights` has {len(weights)} numbers for {classes} classes: give one for each, "
            "in the order of the class names."
        )
    return weights
