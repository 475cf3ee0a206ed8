# SPDX-License-Identifier: Apache-2.0
"""The part of a run's report that shows a classifier's predictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields

import numpy as np

from ...analysis.predictions import Predictions
from ...reports.page import ClassifiedImage, gallery, plot, section
from .base import ReadImages

IMAGES = 24  # images of each gallery


def report_arrays(predictions: Predictions, images: ReadImages) -> dict[str, np.ndarray]:
    """Return all predictions, the first test images, and those of the most confident mistakes."""
    worst = predictions.misclassified()[:IMAGES]
    first = np.arange(min(IMAGES, len(predictions.labels)))
    galleries = {"first_images": images(first), "worst": worst, "worst_images": images(worst)}
    return {**asdict(predictions), **galleries}


def report_sections(arrays: Mapping[str, np.ndarray], class_names: Sequence[str]) -> Iterator[str]:
    """Yield the report's sections: confusion and recall, first images, worst mistakes."""
    # Imported here because plotly takes a second to import.
    from ...reports.figures import MAX_CLASSES, confusion_figure, recall_figure

    predictions = Predictions(**{spec.name: arrays[spec.name] for spec in fields(Predictions)})
    note = (
        f"The {predictions.readable.sum():,} test images after epoch {arrays['epoch']}, the best; "
        f"{len(predictions.misclassified()):,} are taken for another class."
    )
    count = len(class_names)
    if count > MAX_CLASSES:
        note += f" Shown are the {MAX_CLASSES} of {count:,} classes with the most mistakes."
    figures = (figure(predictions, class_names) for figure in (confusion_figure, recall_figure))
    yield section("Confusion", f'<div class="split">{"".join(map(plot, figures))}</div>', note)

    def images(indices: Iterable[int], pixels: Iterable[np.ndarray]) -> Iterator[ClassifiedImage]:
        for index, image in zip(indices, pixels):
            if predictions.readable[index]:
                label, predicted = predictions.labels[index], predictions.predicted[index]
                names = class_names[label], class_names[predicted]
                yield ClassifiedImage(index, image, *names, predictions.top_probabilities[index, 0])

    first = images(range(len(arrays["first_images"])), arrays["first_images"])
    yield section("Predictions", gallery(first), "The first images of the test set.")
    worst = images(arrays["worst"], arrays["worst_images"])
    note = "Wrong answers with the highest probability."
    yield section("Worst mistakes", gallery(worst), note)
