# SPDX-License-Identifier: Apache-2.0
"""HTML of predictions of several labels per image: metrics of each label, images with labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Optional

import numpy as np

from ..analysis.bootstrap import Intervals, bootstrap, describe_intervals
from ..analysis.label_metrics import (
    LabelMetrics,
    describe_missing,
    label_metrics,
    precision_and_recall,
)
from ..analysis.multi_label import MultiLabelPredictions
from .page import image_url, plot, section, wide_table

MAX_WRONG = 4  # wrong labels of an image of a gallery, the most probable ones
COLUMNS = (
    "label",
    "present",
    "absent",
    "AUROC",
    "95 % interval",
    "average precision",
    "95 % interval",
    "threshold",
    "precision",
    "recall",
)


def metric_sections(
    predictions: MultiLabelPredictions,
    thresholds: np.ndarray,
    class_names: Sequence[str],
    groups: Optional[np.ndarray],
    note: str,
) -> Iterator[str]:
    """Yield the sections with the metrics of each label: table, curves, probabilities."""
    # Imported here because plotly takes a second to import.
    from . import label_figures as figures

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


def label_table(
    names: Sequence[str],
    metrics: LabelMetrics,
    intervals: Intervals,
    thresholds: np.ndarray,
    at_thresholds: tuple[np.ndarray, np.ndarray],
) -> str:
    """Return the table of all labels, and of their means.

    ``at_thresholds`` are precision and recall of each label at its threshold, (L,).
    """
    precision, recall = at_thresholds
    rows = [
        (
            name,
            f"{metrics.positives[label]:,}",
            f"{metrics.negatives[label]:,}",
            _number(metrics.auroc[label]),
            _span(intervals.auroc[label]),
            _number(metrics.average_precision[label]),
            _span(intervals.average_precision[label]),
            f"{thresholds[label]:.3f}",
            _number(precision[label]),
            _number(recall[label]),
        )
        for label, name in enumerate(names)
    ]
    means = (
        "mean",
        "",
        "",
        _number(metrics.mean_auroc),
        _span(intervals.mean_auroc),
        _number(metrics.mean_average_precision),
        _span(intervals.mean_average_precision),
        "",
        "",
        "",
    )
    return wide_table(COLUMNS, (*rows, means))


def _number(value: float) -> str:
    return "none" if np.isnan(value) else f"{value:.3f}"


def _span(bounds: np.ndarray) -> str:
    return "" if np.isnan(bounds).any() else f"{bounds[0]:.3f} to {bounds[1]:.3f}"


@dataclass(frozen=True)
class LabelledImage:
    """An image of a gallery, with its true and its predicted labels."""

    index: int  # in the data set
    pixels: np.ndarray  # uint8 (H, W, C) with one or three channels
    labels: np.ndarray  # 1, 0 or NaN for unknown, (L,)
    probabilities: np.ndarray  # (L,)


def label_gallery(
    images: Iterable[LabelledImage], names: Sequence[str], thresholds: np.ndarray
) -> str:
    """Return images with the labels that they have or that are predicted; others are left out."""
    cards = [
        f'<figure><img src="{image_url(image.pixels)}" alt="test image {image.index}" '
        f'title="test image {image.index}">'
        f"<figcaption>{_captions(image, names, thresholds)}</figcaption></figure>"
        for image in images
    ]
    return f'<div class="images">{"".join(cards)}</div>' if cards else "<p>There are none.</p>"


def _captions(image: LabelledImage, names: Sequence[str], thresholds: np.ndarray) -> str:
    lines = []
    for label in np.argsort(-image.probabilities, kind="stable"):
        true, probability = image.labels[label], image.probabilities[label]
        predicted = probability >= thresholds[label]
        if not (predicted or true == 1):
            continue
        if np.isnan(true):
            style, mark = "true", "?"
        elif predicted:
            style, mark = ("right", "✓") if true == 1 else ("wrong", "✗")
        else:
            style, mark = "missed", "–"
        text = f"{mark} {escape(names[label])} {probability:.0%}"
        lines.append((style, f'<span class="{style}">{text}</span>'))
    wrong = [index for index, (style, _) in enumerate(lines) if style == "wrong"]
    hidden = set(wrong[MAX_WRONG:])
    shown = [text for index, (_, text) in enumerate(lines) if index not in hidden]
    if hidden:
        shown.append(f'<span class="wrong">✗ {len(hidden)} more</span>')
    return "".join(shown) or '<span class="true">no label, none predicted</span>'
