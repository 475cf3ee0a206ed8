# SPDX-License-Identifier: Apache-2.0
"""The part of a run's report that shows predictions of several labels an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

import numpy as np

from ...analysis.label_metrics import choose_thresholds
from ...analysis.multi_label import MultiLabelPredictions
from ...data.files.image_set import evenly_spaced
from ...reports.labels import LabelledImage, label_gallery, metric_sections
from ...reports.page import section
from .base import ReadImages

IMAGES = 24  # images of each gallery


def report_arrays(predictions: MultiLabelPredictions, images: ReadImages) -> dict[str, np.ndarray]:
    """Return all predictions, some test images, and those with the largest loss."""
    losses = predictions.losses()
    readable = np.flatnonzero(~np.isnan(losses))
    some = readable[evenly_spaced(len(readable), IMAGES)]
    worst = readable[np.argsort(-losses[readable], kind="stable")][:IMAGES]
    return {
        **asdict(predictions),
        "some": some,
        "some_images": images(some),
        "worst": worst,
        "worst_images": images(worst),
    }


def report_sections(arrays: Mapping[str, np.ndarray], class_names: Sequence[str]) -> Iterator[str]:
    """Yield the report's sections: labels, curves, probabilities, some images, largest losses."""
    predictions = MultiLabelPredictions(arrays["probabilities"], arrays["labels"])
    thresholds = choose_thresholds(predictions.labels, predictions.probabilities)
    note = (
        f"The {predictions.readable.sum():,} test images after epoch {arrays['epoch']}, the best. "
        "The best epoch and the thresholds, those of the largest F1 score, were chosen on these "
        "images, so figures on new images are lower."
    )
    yield from metric_sections(predictions, thresholds, class_names, arrays.get("groups"), note)

    def images(name: str) -> Iterator[LabelledImage]:
        for index, pixels in zip(arrays[name], arrays[f"{name}_images"]):
            labels, probabilities = predictions.labels[index], predictions.probabilities[index]
            yield LabelledImage(index, pixels, labels, probabilities)

    note = (
        "Test images, evenly spaced. ✓ predicted and right, ✗ predicted and wrong, – missed, "
        "? unknown."
    )
    yield section("Predictions", label_gallery(images("some"), class_names, thresholds), note)
    note = "The test images with the largest loss."
    yield section("Largest losses", label_gallery(images("worst"), class_names, thresholds), note)
