"""The committed figures are those that the tables and results give now."""

from __future__ import annotations

import importlib
import xml.etree.ElementTree as ET

import pytest
from support.paths import ROOT

draw = importlib.import_module("dev.draw_figures")


@pytest.mark.parametrize("path", sorted(draw.drawn()), ids=lambda path: path.stem)
def test_a_figure_is_current(path):
    svg = draw.drawn()[path]
    assert path.read_text(encoding="utf-8") == svg, "run python scripts/dev/draw_figures.py"
    ET.fromstring(svg)
    assert "\n\n" not in svg  # an empty line would end the block of HTML in a page


def test_every_committed_svg_is_drawn():
    committed = set((ROOT / "docs").rglob("*.svg"))
    assert committed == set(draw.drawn())
