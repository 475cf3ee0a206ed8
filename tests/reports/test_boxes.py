from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from gluondense.reports.boxes import Box, draw_boxes, overlay

GRAY = np.full((60, 80, 3), 128, np.uint8)
RED, BLUE = "#ff0000", "#0000ff"


def test_the_line_is_on_the_first_and_the_last_pixel_of_the_box():
    drawn = draw_boxes(GRAY, [Box((10, 20, 50, 40), RED)])
    red = (drawn == (255, 0, 0)).all(axis=2)
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (20, 39, 10, 49)
    assert (drawn[30, 30] == 128).all()
    assert (GRAY == 128).all()


def test_the_first_box_is_on_top():
    boxes = [Box((10, 20, 50, 40), color) for color in (RED, BLUE)]
    assert draw_boxes(GRAY, boxes)[20, 30].tolist() == [255, 0, 0]


def test_a_label_is_inside_the_image():
    for corners in ((0, 0, 30, 30), (60, 40, 80, 60), (-5, 25, 70, 90)):
        plain, labelled = (draw_boxes(GRAY, [Box(corners, RED, text)]) for text in ("", "cat 0.9"))
        assert ((labelled == (255, 0, 0)).all(axis=2).sum()) > (plain == (255, 0, 0)).all(
            axis=2
        ).sum() + 100


@pytest.mark.parametrize("corners", [(5, 5, 5, 5), (30, 30, 10, 10), (-50, -50, -20, -20)])
def test_empty_inverted_and_outside_boxes_are_no_error(corners):
    box = Box(corners, RED, "cat")
    assert draw_boxes(GRAY[..., :1], [box]).shape == (60, 80, 3)
    assert 'width="-' not in overlay(GRAY, (80, 60), [box], "image")


def test_an_overlay_is_valid_and_escaped():
    evil = '"<i>&'
    html = overlay(GRAY, (160, 120), [Box((8, 8, 40, 40), RED, evil, evil, dashed=True)], evil)
    svg = ElementTree.fromstring(html)
    assert svg.get("viewBox") == "0 0 160 120"
    image, group = svg
    assert image.get("width") == "160"
    assert [child.tag for child in group] == ["title", "rect", "rect", "text"]
    assert group[0].text == group[3].text == evil
    assert (group[2].get("x"), group[2].get("width"), group[2].get("stroke")) == (
        "8.0",
        "32.0",
        RED,
    )
