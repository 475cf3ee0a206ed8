# SPDX-License-Identifier: Apache-2.0
"""Evaluation of a detector on the images with boxes of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import mxnet as mx

from ..analysis.detection.predict import evaluate
from ..analysis.detection.summary import DetectionSummary
from ..data.detection.dataset import DetectionFiles
from ..data.detection.loader import DetectionLoader
from ..data.detection.transforms import EvalTransform
from ..data.loaders.to_input import ToInput
from ..reports.detection_page import detection_lines, detection_page
from ..reports.detections import most_mistakes
from .model import EvaluatedModel, check_readable

IMAGES = 12  # images of the page


@dataclass(frozen=True)
class DetectionEvaluation:
    """The detections of a model in all images of a split of a data set.

    Parameters
    ----------
    model, data
        The model under evaluation, and the data set, whose ``test`` was evaluated.
    summary
        Detections, true boxes, and all metrics.
    skipped
        Number of images that could not be decoded.
    """

    model: EvaluatedModel
    data: DetectionFiles
    summary: DetectionSummary
    skipped: int

    @property
    def score(self) -> tuple[str, float]:
        """Name and value, 0 to 1, of the metric that compares models."""
        return "mAP@0.5", self.summary.mean_ap50

    def to_dict(self) -> dict[str, Any]:
        """Return all metrics, ready for JSON, see :class:`.DetectionSummary`."""
        return {
            "model": self.model.name,
            "network": self.model.model,
            "dataset": self.data.info.name,
            "split": self.data.part,
            "images": int(self.summary.predictions.readable.sum()),
            "skipped": self.skipped,
            **self.model.shown_preprocessing(),
            **self._metrics,
        }

    def lines(self) -> list[str]:
        """Return a summary, with a row for each class."""
        return detection_lines(self.to_dict())

    def page(self) -> str:
        """Render a self-contained HTML page with all metrics and some images."""
        worst = most_mistakes(self.summary, IMAGES)
        pixels = self.data.read_test_images(worst, self.model.known_preprocessing())
        title = self.model.title(self.data.info.name)
        return detection_page(title, self.to_dict(), self.summary, zip(map(int, worst), pixels))

    @cached_property
    def _metrics(self) -> dict[str, Any]:  # COCO's metrics of 5,000 images take half a minute
        return self.summary.to_dict()


def evaluate_detector(
    model: EvaluatedModel,
    data: DetectionFiles,
    devices: Sequence[mx.Context],
    batch_size: int = 8,
    workers: int = 0,
) -> DetectionEvaluation:
    """Find the boxes in all test images of a data set, whose classes are the model's."""
    preprocessing = model.known_preprocessing()
    loader = DetectionLoader(
        data.test,
        EvalTransform(preprocessing),
        batch_size,
        max_boxes=data.test.most_boxes + 1,  # the first row is the placement
        workers=workers,
    )
    normalization = () if model.takes_pixels else (preprocessing.mean, preprocessing.std)
    try:
        found = evaluate(model.net, loader, batch_size, devices, ToInput(*normalization))
    finally:
        loader.close()
    check_readable(found.readable, data.info.name)
    summary = DetectionSummary(found, data.info.class_names)
    return DetectionEvaluation(model, data, summary, len(loader.bad))
