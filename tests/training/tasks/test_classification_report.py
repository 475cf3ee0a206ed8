"""The galleries of a report: images of all classes, and the worst mistakes."""

from __future__ import annotations

import numpy as np
import pytest

from gluondense.analysis.predictions import Predictions
from gluondense.training.tasks.classification_report import (
    IMAGES,
    report_arrays,
    report_sections,
    sample_classes,
)


def predictions_of(labels) -> Predictions:
    labels = np.asarray(labels)
    classes = labels.max() + 1
    rows = np.random.default_rng(0).dirichlet(np.ones(classes), len(labels))
    return Predictions.from_probabilities(rows, labels)


def pixels(indices):
    return np.zeros((len(indices), 4, 4, 3), np.uint8)


@pytest.mark.parametrize(
    ("labels", "each"),
    [
        (np.repeat(np.arange(10), 50), {2, 3}),  # sorted by class, as a folder is
        (np.repeat(np.arange(24), 50), {1}),
        (np.repeat(np.arange(100), 5), {0, 1}),
        (np.repeat([0, 1, 2], [1, 500, 500]), {1, 11, 12}),
        (np.repeat([0, 1], [2, 3]), {2, 3}),
    ],
)
def test_the_gallery_samples_all_classes(labels, each):
    chosen = sample_classes(labels, IMAGES)
    assert len(set(chosen.tolist())) == len(chosen) == min(IMAGES, len(labels))
    counts = np.bincount(labels[chosen], minlength=labels.max() + 1)
    assert set(counts.tolist()) == each


def test_unreadable_images_are_not_shown():
    labels = np.array([-1, 0, -1, 1, 1])
    assert sample_classes(labels, 24).tolist() == [1, 3, 4]
    assert sample_classes(np.array([-1]), 24).tolist() == []


def test_the_page_shows_the_sample():
    predictions = predictions_of(np.repeat(np.arange(30), 9))
    arrays = {**report_arrays(predictions, pixels), "epoch": np.asarray(3)}
    names = tuple(f"name{number:02d}" for number in range(30))
    gallery = next(text for text in report_sections(arrays, names) if "spread over" in text)
    shown = {name for name in names if name in gallery}
    assert len(shown) >= IMAGES


def test_predictions_of_version_0_1_0_still_make_a_page():
    predictions = predictions_of(np.repeat(np.arange(3), 9))
    arrays = {**report_arrays(predictions, pixels), "epoch": np.asarray(3)}
    del arrays["sample"], arrays["sample_images"]
    arrays["first_images"] = pixels(range(24))
    sections = "".join(report_sections(arrays, ("a", "b", "c")))
    assert "The first images of the test set." in sections
