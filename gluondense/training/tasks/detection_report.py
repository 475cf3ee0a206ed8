# SPDX-License-Identifier: Apache-2.0
"""The part of a run's report that shows a detector's boxes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields

import numpy as np

from ...analysis.detection.detections import Detections
from ...analysis.detection.summary import DetectionSummary
from ...data.files.image_set import evenly_spaced
from ...reports.detections import LEGEND, box_gallery, metric_sections, most_mistakes
from ...reports.page import section
from .base import ReadImages, evaluated_split

IMAGES = 12  # images of each gallery


def report_arrays(predictions: Detections, images: ReadImages) -> dict[str, np.ndarray]:
    """Return all detections, some test images, and those with the most mistakes."""
    readable = np.flatnonzero(predictions.readable)
    some = readable[evenly_spaced(len(readable), IMAGES)]
    names = tuple(map(str, range(predictions.classes)))
    worst = most_mistakes(DetectionSummary(predictions, names), IMAGES)
    return {
        **asdict(predictions),
        "some": some,
        "some_images": images(some),
        "worst": worst,
        "worst_images": images(worst),
    }


def report_sections(arrays: Mapping[str, np.ndarray], class_names: Sequence[str]) -> Iterator[str]:
    """Yield the report's sections: metrics, some images, and those with the most mistakes."""
    predictions = Detections(*(arrays[field.name] for field in fields(Detections)))
    summary = DetectionSummary(predictions, class_names)
    note = (
        f"The {predictions.readable.sum():,} {evaluated_split(arrays)} images after epoch "
        f"{arrays['epoch']}, the best. "
        "The best epoch and the threshold were chosen on these images, so figures on new images "
        "are lower."
    )
    yield from metric_sections(summary, note)
    galleries = {
        "Detections": ("some", "Images, evenly spaced."),
        "Most mistakes": ("worst", "The images with the most missed and invented boxes."),
    }
    for title, (name, text) in galleries.items():
        images = zip(map(int, arrays[name]), arrays[f"{name}_images"])
        yield section(title, box_gallery(summary, images), f"{text} {LEGEND}")
