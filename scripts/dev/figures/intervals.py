# SPDX-License-Identifier: Apache-2.0
"""The table of findings in docs/multi-label.md as a chart of points and intervals."""

from __future__ import annotations

import re
from pathlib import Path

from .svg import figure, text

PAGE = Path(__file__).parents[3] / "docs" / "multi-label.md"
ROW, TOP, LEFT, PANEL, GAP = 22, 56, 150, 220, 40
METRICS = ("AUROC", "average precision")
VALUE = re.compile(r"([\d.]+)(?: \(([\d.]+) to ([\d.]+)\))?")


def findings() -> str:
    """Return the SVG."""
    page = PAGE.read_text(encoding="utf-8")
    table = page[page.index("| finding | images |") :].partition("\n\n")[0]
    rows = [[cell.strip(" *") for cell in line.split("|")[1:-1]] for line in table.split("\n")[2:]]
    height = TOP + ROW * len(rows)
    parts = []
    for panel, metric in enumerate(METRICS):
        x = LEFT + panel * (PANEL + GAP)
        parts.append(text(x + PANEL / 2, 17, metric, "title"))
        for tick in range(5):
            place = x + PANEL * tick / 4
            parts.append(f'<path class="grid" d="M{place:g} {TOP - 12}V{height}"/>')
            parts.append(text(place, TOP - 18, f"{tick / 4:g}", "note"))
    for index, row in enumerate(rows):
        y = TOP + ROW * index
        parts.append(text(LEFT - 10, y + 4.5, row[0], "end"))
        for panel, value in enumerate(row[2:]):
            parts += _interval(LEFT + panel * (PANEL + GAP), y, value)
    label = "; ".join(f"{row[0]}: AUROC {row[2]}, average precision {row[3]}" for row in rows)
    return figure(LEFT + 2 * PANEL + GAP + 10, height, label, parts)


def _interval(x: float, y: float, value: str) -> list[str]:
    """Return a point, and a line through it if the value has an interval."""
    found = VALUE.fullmatch(value)
    assert found, value
    point, *ends = (
        None if number is None else x + PANEL * float(number) for number in found.groups()
    )
    parts = [f'<circle class="own" cx="{point:.1f}" cy="{y}" r="4"/>']
    if None not in ends:
        low, high = ends
        parts.append(f'<path class="teal" d="M{low:.1f} {y}H{high:.1f}"/>')
    return parts
