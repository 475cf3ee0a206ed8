from __future__ import annotations

import re

import numpy as np
from support.detections import random_detections

from gluondense.training.tasks.detection_report import report_arrays, report_sections

NAMES = ("a", "b", "c")


def read_images(indices: np.ndarray) -> np.ndarray:
    return np.zeros((len(indices), 32, 32, 3), np.uint8)


def test_the_report_is_made_of_its_arrays():
    drawn = random_detections(0, images=30)
    arrays = {**report_arrays(drawn, read_images), "epoch": np.asarray(3)}
    assert all(isinstance(array, np.ndarray) or len(array) for array in arrays.values())
    sections = list(report_sections(arrays, NAMES))
    titles = [re.search("<h2>(.*?)</h2>", section).group(1) for section in sections]
    assert titles == [
        "Classes",
        "Precision-recall curves",
        "Recall by size, scores",
        "Invented detections",
        "COCO",
        "Detections",
        "Most mistakes",
    ]
    assert f"The {drawn.readable.sum()} test images after epoch 3" in sections[0]
    assert sections[5].count("<svg") == sections[6].count("<svg") == 12


def test_a_report_without_any_detection():
    drawn = random_detections(0)
    drawn.detections[:] = -1
    arrays = {**report_arrays(drawn, read_images), "epoch": np.asarray(1)}
    assert len(list(report_sections(arrays, NAMES))) == 7
