from __future__ import annotations

import re

import numpy as np
from support.detections import random_detections

from gluondense.analysis.detection.detections import Detections
from gluondense.analysis.detection.summary import DetectionSummary
from gluondense.reports.detections import box_gallery, class_table, image_boxes, most_mistakes

NAMES = ("cat", "<i>", "cow")


def summary() -> DetectionSummary:
    """Return two images: in the first all kinds of boxes, the second is unreadable."""
    truth = np.full((2, 4, 6), -1.0)
    truth[0] = [
        (0, 0, 40, 40, 0, 0),
        (50, 0, 90, 40, 1, 0),  # missed
        (0, 50, 40, 90, 2, 1),  # difficult, found
        (50, 50, 90, 90, 2, 1),  # difficult, not found
    ]
    boxes = np.full((2, 4, 6), -1.0)
    boxes[0] = [
        (0, 0.9, 100, 0, 140, 40),  # invented
        (2, 0.8, 0, 50, 40, 90),
        (0, 0.7, 0, 0, 40, 40),
        (1, 0.1, 100, 100, 110, 110),  # below the threshold
    ]
    placements = np.array([[200, 100, 0.2, 0.2, 0, 10], [-1] * 6], float)
    return DetectionSummary(Detections(boxes, truth, placements), NAMES)


def test_each_kind_of_box_is_drawn_once():
    boxes, counts = image_boxes(summary(), 0)
    assert counts == {"right": 1, "missed": 1, "invented": 1}
    assert [box.hint for box in boxes] == [
        "missed: <i>",
        "invented: cat 0.90",
        "ignored: cow 0.80, IoU 1.00",
        "difficult: cow",
        "right: cat 0.70, IoU 1.00",
    ]


def test_the_gallery_shows_the_image_without_padding():
    pixels = np.zeros((40, 40, 3), np.uint8)
    html = box_gallery(summary(), [(0, pixels)])
    assert 'viewBox="0 0 200 100"' in html
    assert "&lt;i&gt;" in html
    assert "<i>" not in html
    assert re.findall(r"(\d+) (right|missed|invented)", html) == [
        ("1", "right"),
        ("1", "missed"),
        ("1", "invented"),
    ]
    assert box_gallery(summary(), []) == "<p>There are none.</p>"


def test_the_images_with_the_most_mistakes_come_first():
    drawn = random_detections(0, images=40)
    found = DetectionSummary(drawn, ("a", "b", "c"))
    counts = [image_boxes(found, index)[1] for index in range(40)]
    mistakes = np.array([count["missed"] + count["invented"] for count in counts])
    worst = most_mistakes(found, 10)
    np.testing.assert_array_equal(mistakes[worst], np.sort(mistakes)[::-1][:10])
    assert mistakes[worst[-1]] > 0


def test_the_table_has_a_row_a_class_and_the_sums():
    rows = re.findall(r"<tr>(<td>.*?)</tr>", class_table(summary()))
    cells = [re.findall(r"<td>(.*?)</td>", row) for row in rows]
    assert [row[0] for row in cells] == ["cat", "&lt;i&gt;", "cow", "mean AP, sums"]
    assert [row[1] for row in cells] == ["1", "1", "0", "2"]
    assert [row[2] for row in cells] == ["0.500", "0.000", "", "0.250"]
    assert cells[-1][-3:] == ["1", "1", "1"]
