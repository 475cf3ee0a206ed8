# SPDX-License-Identifier: Apache-2.0
"""The part of a run's report that shows predictions of several labels an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from html import escape
from typing import Optional

import numpy as np

from ...analysis.label_metrics import (
    Intervals,
    LabelMetrics,
    bootstrap,
    choose_thresholds,
    label_metrics,
    precision_and_recall,
)
from ...analysis.multi_label import MultiLabelPredictions
from ...data.files.image_set import evenly_spaced
from ...reports.labels import LabelledImage, label_gallery, label_table
from ...reports.page import plot, section
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


def metric_sections(
    predictions: MultiLabelPredictions,
    thresholds: np.ndarray,
    class_names: Sequence[str],
    groups: Optional[np.ndarray],
    note: str,
) -> Iterator[str]:
    """Yield the sections with the metrics of each label: table, curves, probabilities."""
    # Imported here because plotly takes a second to import.
    from ...reports import label_figures as figures

    labels, scores = predictions.labels, predictions.probabilities
    metrics, intervals = label_metrics(labels, scores), bootstrap(labels, scores, groups)
    shown = figures.shown_labels(metrics)
    table = label_table(
        class_names,
        metrics,
        intervals,
        thresholds,
        precision_and_recall(labels, scores, thresholds),
    )
    explained = (
        f"{note} {describe_intervals(intervals)} The dotted line and the ticks are random scores. "
        f"{describe_missing(metrics, class_names)}"
    )
    forest = plot(figures.auroc_figure(metrics, intervals, class_names, shown))
    yield section("Labels", forest + table, escape(explained))
    note = ""
    if len(shown) < (count := int((~np.isnan(metrics.auroc)).sum())):
        note = f"The {len(shown)} most frequent of {count:,} labels."
    curves = plot(figures.curves_figure(labels, scores, class_names, shown))
    yield section("ROC and precision-recall curves", curves, note)
    bars = plot(figures.scores_figure(labels, scores, thresholds, class_names, shown))
    note = "Shares of the images with and without each label; the dashed line is the threshold."
    yield section("Probabilities", bars, note)


def describe_intervals(intervals: Intervals) -> str:
    """Say in a sentence what the intervals are."""
    drawn = "whole groups" if intervals.unit == "group" else "images"
    return (
        f"Intervals are 95 % percentile intervals of {intervals.replicates:,} bootstrap "
        f"replicates that draw {drawn}."
    )


def describe_missing(metrics: LabelMetrics, class_names: Sequence[str]) -> str:
    """Say in a sentence which labels have no metrics, "" if all have."""
    missing = [class_names[label] for label in np.flatnonzero(np.isnan(metrics.auroc))]
    if not missing:
        return ""
    shown = ", ".join(missing[:5]) + ", …" * (len(missing) > 5)
    return f"Without metrics, because only one value occurs: {shown}."
