# SPDX-License-Identifier: Apache-2.0
"""The part of a run's report that shows predictions of several labels per image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

import numpy as np
from mxnet import gluon

from ...analysis.label_metrics import choose_thresholds
from ...analysis.multi_label import MultiLabelPredictions
from ...data.files.image_set import evenly_spaced
from ...data.preprocessing import Preprocessing
from ...reports.explanations import ExplainedImage, explained_gallery
from ...reports.labels import LabelledImage, label_gallery, metric_sections
from ...reports.page import section
from .base import ReadImages, evaluated_split
from .explanations import EXPLAINED, MAPS, NOTE, draw_maps, explain_arrays

IMAGES = 24  # images of each gallery
EXPLAINED_GALLERIES = {"some": "Some images", "worst": "Largest losses"}  # arrays -> title


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
        f"The {predictions.readable.sum():,} {evaluated_split(arrays)} images after epoch "
        f"{arrays['epoch']}, the best. "
        "The best epoch and the thresholds, those of the largest F1 score, were chosen on these "
        "images, so figures on new images are lower."
    )
    yield from metric_sections(predictions, thresholds, class_names, arrays.get("groups"), note)

    def images(name: str) -> Iterator[LabelledImage]:
        for index, pixels in zip(arrays[name], arrays[f"{name}_images"]):
            labels, probabilities = predictions.labels[index], predictions.probabilities[index]
            yield LabelledImage(index, pixels, labels, probabilities)

    note = (
        "Images, evenly spaced. ✓ predicted and right, ✗ predicted and wrong, – missed, ? unknown."
    )
    yield section("Predictions", label_gallery(images("some"), class_names, thresholds), note)
    note = "The images with the largest loss."
    yield section("Largest losses", label_gallery(images("worst"), class_names, thresholds), note)
    if MAPS in arrays:
        body = _explanations(arrays, predictions, thresholds, class_names)
        note = f"The most probable label that an image has, else the most probable one. {NOTE}"
        yield section("Explanations", body, note)


def explain(
    net: gluon.HybridBlock, arrays: Mapping[str, np.ndarray], preprocessing: Preprocessing
) -> dict[str, np.ndarray]:
    """Return the class activation maps of a label of some images and of the largest losses."""
    predictions = MultiLabelPredictions(arrays["probabilities"], arrays["labels"])
    found = [pair for name in EXPLAINED_GALLERIES for pair in _explained(arrays, name)]
    labels = np.array([_explained_label(predictions, index) for index, _ in found])
    return explain_arrays(net, [image for _, image in found], labels, preprocessing)


def _explained(arrays: Mapping[str, np.ndarray], name: str) -> list[tuple[int, np.ndarray]]:
    """Return the indices and pixels of the images of a gallery that are explained."""
    count = len(arrays[name])
    chosen = range(min(count, EXPLAINED)) if name == "worst" else evenly_spaced(count, EXPLAINED)
    return [(int(arrays[name][at]), arrays[f"{name}_images"][at]) for at in chosen]


def _explained_label(predictions: MultiLabelPredictions, index: int) -> int:
    """Return the most probable of the labels that an image has, else the most probable one."""
    present = predictions.labels[index] == 1
    candidates = present if present.any() else np.ones_like(present)
    return int(np.argmax(np.where(candidates, predictions.probabilities[index], -1)))


def _explanations(
    arrays: Mapping[str, np.ndarray],
    predictions: MultiLabelPredictions,
    thresholds: np.ndarray,
    class_names: Sequence[str],
) -> str:
    galleries = {t: _explained(arrays, name) for name, t in EXPLAINED_GALLERIES.items()}
    drawn = draw_maps(arrays, [image for pairs in galleries.values() for _, image in pairs])

    def cards(pairs: list[tuple[int, np.ndarray]]) -> Iterator[ExplainedImage]:
        for index, image in pairs:
            label = _explained_label(predictions, index)
            true, probability = (a[index] for a in (predictions.labels, predictions.probabilities))
            present = ", ".join(class_names[at] for at in np.flatnonzero(true == 1)) or "no label"
            is_right = bool((probability[label] >= thresholds[label]) == true[label])
            yield ExplainedImage(
                index,
                image,
                next(drawn),
                present,
                class_names[label],
                probability[label],
                None if np.isnan(true[label]) else is_right,
            )

    found = "".join(explained_gallery(title, cards(pairs)) for title, pairs in galleries.items())
    return found or "<p>There are none.</p>"
