# SPDX-License-Identifier: Apache-2.0
"""The part of a run's report that shows a classifier's predictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields

import numpy as np
from mxnet import gluon

from ...analysis.predictions import Predictions
from ...data.files.image_set import evenly_spaced
from ...data.preprocessing import Preprocessing
from ...reports.explanations import ExplainedImage, explained_gallery
from ...reports.page import ClassifiedImage, gallery, plot, section
from .base import ReadImages, evaluated_split
from .explanations import EXPLAINED, MAPS, NOTE, draw_maps, explain_arrays

IMAGES = 24  # images of each gallery


def report_arrays(predictions: Predictions, images: ReadImages) -> dict[str, np.ndarray]:
    """Return all predictions, test images of all classes, mistakes, and the worst mistakes."""
    mistakes, labels = predictions.misclassified(), predictions.labels
    right = predictions.predicted == labels
    others = np.isin(np.arange(len(labels)), mistakes[EXPLAINED:])
    galleries = {
        "sample": sample_classes(labels, IMAGES),
        "correct": sample_classes(np.where(right, labels, -1), EXPLAINED),
        "wrong": sample_classes(np.where(others, labels, -1), EXPLAINED),
        "worst": mistakes[:IMAGES],
    }
    pixels = {f"{name}_images": images(indices) for name, indices in galleries.items()}
    return {**asdict(predictions), **galleries, **pixels}


def explain(
    net: gluon.HybridBlock, arrays: Mapping[str, np.ndarray], preprocessing: Preprocessing
) -> dict[str, np.ndarray]:
    """Return the class activation maps of the predicted classes of :func:`_explained`."""
    found = [pair for pairs in _explained(arrays).values() for pair in pairs]
    classes = _predictions(arrays).predicted[[index for index, _ in found]]
    return explain_arrays(net, [image for _, image in found], classes, preprocessing)


def _explained(arrays: Mapping[str, np.ndarray]) -> dict[str, list[tuple[int, np.ndarray]]]:
    """Return the indices and pixels of the images that are explained, by the title of a gallery."""
    predictions = _predictions(arrays)

    def pairs(name: str) -> list[tuple[int, np.ndarray]]:
        pixels = arrays.get(f"{name}_images", ())
        indices = arrays.get(name, range(len(pixels)))  # "first", in a run of version 0.1.0
        readable = (pair for pair in zip(indices, pixels) if predictions.readable[pair[0]])
        return [(int(index), image) for index, image in readable]

    right = predictions.predicted == predictions.labels
    return {
        "Correct": pairs("correct") or [p for p in pairs("first") if right[p[0]]][:EXPLAINED],
        "Wrong": pairs("wrong"),
        "Most confident mistakes": pairs("worst")[:EXPLAINED],
    }


def _predictions(arrays: Mapping[str, np.ndarray]) -> Predictions:
    return Predictions(**{spec.name: arrays[spec.name] for spec in fields(Predictions)})


def sample_classes(labels: np.ndarray, count: int) -> np.ndarray:
    """Return the indices of up to ``count`` readable images, spread evenly over the classes.

    The first image of each class comes before the second one of any. If there are more classes than
    images, the classes are at equal distances.

    Examples
    --------
    >>> sample_classes(np.array([0, 0, 0, 1, 1, -1, 2]), 5).tolist()
    [0, 1, 3, 4, 6]
    >>> sample_classes(np.arange(10), 5).tolist()
    [0, 2, 4, 6, 8]
    """
    readable = np.flatnonzero(labels >= 0)
    order = readable[np.argsort(labels[readable], kind="stable")]
    classes, starts = np.unique(labels[order], return_index=True)
    ranks = np.arange(len(order)) - np.repeat(starts, np.diff([*starts, len(order)]))
    if len(classes) > count:
        first = order[ranks == 0]
        return np.sort(first[evenly_spaced(len(first), count)])
    return np.sort(order[np.argsort(ranks, kind="stable")][:count])


def report_sections(arrays: Mapping[str, np.ndarray], class_names: Sequence[str]) -> Iterator[str]:
    """Yield the report's sections: confusion and recall, first images, worst mistakes."""
    # Imported here because plotly takes a second to import.
    from ...reports.figures import MAX_CLASSES, confusion_figure, recall_figure

    predictions = _predictions(arrays)
    note = (
        f"The {predictions.readable.sum():,} {evaluated_split(arrays)} images after epoch "
        f"{arrays['epoch']}, the best; "
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

    if "sample" in arrays:
        sample = images(arrays["sample"], arrays["sample_images"])
        yield section("Predictions", gallery(sample), "Images, spread over the classes.")
    else:  # a run of version 0.1.0
        first = images(range(len(arrays["first_images"])), arrays["first_images"])
        yield section("Predictions", gallery(first), "The first images of the test set.")
    worst = images(arrays["worst"], arrays["worst_images"])
    note = "Wrong answers with the highest probability."
    yield section("Worst mistakes", gallery(worst), note)
    if MAPS in arrays:
        yield section("Explanations", _explanations(arrays, predictions, class_names), NOTE)


def _explanations(
    arrays: Mapping[str, np.ndarray], predictions: Predictions, class_names: Sequence[str]
) -> str:
    galleries = _explained(arrays)
    drawn = draw_maps(arrays, [image for pairs in galleries.values() for _, image in pairs])

    def cards(pairs: Iterable[tuple[int, np.ndarray]]) -> Iterator[ExplainedImage]:
        for index, image in pairs:
            label, predicted = predictions.labels[index], predictions.predicted[index]
            names = class_names[label], class_names[predicted]
            probability = predictions.top_probabilities[index, 0]
            yield ExplainedImage(
                index, image, next(drawn), *names, probability, bool(label == predicted)
            )

    found = "".join(explained_gallery(title, cards(pairs)) for title, pairs in galleries.items())
    return found or "<p>There are none.</p>"
