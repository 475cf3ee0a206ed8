# SPDX-License-Identifier: Apache-2.0
"""The results of an evaluation of a classifier."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Optional

import numpy as np

from ..analysis.label_summary import label_summary
from ..analysis.multi_label import MultiLabelPredictions
from ..analysis.predictions import Predictions
from ..reports.class_page import class_lines, class_page
from ..reports.label_page import label_lines, label_page
from ..weights.published import PublishedError
from .model import EvaluatedModel


@dataclass(frozen=True)
class Evaluation:
    """The predictions of a model for all test images of a data set.

    Parameters
    ----------
    model, dataset, crops
        The model under evaluation, the name of the data set, and the crops per image.
    class_names, predictions
        A label for each class, and the predictions.
    skipped
        Number of images that could not be decoded.
    published
        Published errors of the same network on the same data set.
    """

    model: EvaluatedModel
    dataset: str
    crops: int
    class_names: tuple[str, ...]
    predictions: Predictions
    skipped: int
    published: list[PublishedError]

    def to_dict(self) -> dict[str, Any]:
        """Return all metrics, ready for JSON; the recall of a class without images is null."""
        recalls = self.predictions.recalls(len(self.class_names))
        return {
            "model": self.model.name,
            "network": self.model.model,
            "dataset": self.dataset,
            "images": int(self.predictions.readable.sum()),
            "skipped": self.skipped,
            "crops": self.crops,
            **self.model.shown_preprocessing(),
            "top1": self.predictions.top_accuracy(1),
            "top1_interval": list(self.predictions.accuracy_interval),
            "top5": self.predictions.top_accuracy(5),
            "loss": self.predictions.loss,
            "published": [vars(error) for error in self.published],
            "classes": {
                name: None if np.isnan(recall) else float(recall)
                for name, recall in zip(self.class_names, recalls)
            },
        }

    @property
    def score(self) -> tuple[str, float]:
        """Name and value, 0 to 1, of the metric that compares models."""
        return "Accuracy", self.predictions.accuracy

    def lines(self) -> list[str]:
        """Return a summary, with the classes of the lowest recall."""
        return class_lines(self.to_dict())

    def page(self) -> str:
        """Render a self-contained HTML page with all metrics."""
        title = self.model.title(self.dataset)
        return class_page(title, self.to_dict(), self.predictions, self.class_names)


@dataclass(frozen=True)
class LabelEvaluation:
    """The predictions of a multi-label model for all test images of a data set.

    Parameters
    ----------
    model, dataset, crops
        The model under evaluation, the name of the data set, and the crops per image.
    class_names, predictions
        Names of the labels, and the predictions.
    skipped
        Number of images that could not be decoded.
    thresholds
        The model's probability from which on each label is present, (L,).
    groups
        Group of each image, (N,); None if there are no groups.
    """

    model: EvaluatedModel
    dataset: str
    crops: int
    class_names: tuple[str, ...]
    predictions: MultiLabelPredictions
    skipped: int
    thresholds: np.ndarray
    groups: Optional[np.ndarray]

    def to_dict(self) -> dict[str, Any]:
        """Return all metrics, see :func:`.analysis.label_summary.label_summary`."""
        return {
            "model": self.model.name,
            "network": self.model.model,
            "dataset": self.dataset,
            "images": int(self.predictions.readable.sum()),
            "skipped": self.skipped,
            "crops": self.crops,
            **self.model.shown_preprocessing(),
            **self._summary,
        }

    @property
    def score(self) -> tuple[str, float]:
        """Name and value, 0 to 1, of the metric that compares models."""
        return "Mean AUROC", self.predictions.mean_auroc

    def lines(self) -> list[str]:
        """Return a summary, with a row for each label."""
        return label_lines(self.to_dict())

    def page(self) -> str:
        """Render a self-contained HTML page with all metrics."""
        title, metrics = self.model.title(self.dataset), self.to_dict()
        return label_page(title, metrics, self.predictions, self.thresholds, self.groups)

    @cached_property
    def _summary(self) -> dict[str, Any]:  # the bootstrap of 100,000 images takes seconds
        return label_summary(self.predictions, self.class_names, self.thresholds, self.groups)
