# SPDX-License-Identifier: Apache-2.0
"""Heat maps: the tables of gradient flow in docs/explain.md, and feature reuse."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from .svg import figure, text

DOCS = Path(__file__).parents[3] / "docs"
PAGE = DOCS / "explain.md"
REUSE = DOCS / "results" / "explain" / "reuse.json"  # draw_images.py writes it
LEFT, TOP, CELL, ROW = 78, 54, 44, 28


def gradient_flow() -> dict[str, str]:
    """Return the SVG of each network; explain_page.py computes the tables of the page."""
    page = PAGE.read_text(encoding="utf-8")
    (computed,) = re.findall(r"<!-- computed: shares -->(.*?)<!-- end -->", page, re.DOTALL)
    tables = re.findall(r"^(\S.*):\n\n((?:\|.*\n)+)", computed, re.MULTILINE)
    return {name.rpartition(" ")[2].lower(): _heatmap(name, table) for name, table in tables}


def feature_reuse() -> dict[str, str]:
    """Return the SVG of the feature reuse in each stage of a network."""
    found = {}
    for stage in json.loads(REUSE.read_text(encoding="utf-8")):
        name, columns = stage["stage"], stage["readers"]
        cells = [["" if s is None else f"{s:.0%}" for s in row] for row in stage["shares"]]
        parts = _cells(name, columns, stage["sources"], cells)
        size = LEFT + CELL * len(columns) + 12, TOP + ROW * len(cells) + 4
        label = f"{name}: how much each layer (column) uses each previous one (row)"
        found[name] = figure(*size, label, parts)
    return found


def _heatmap(name: str, table: str) -> str:
    head, _, *rows = (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in table.split("\n")
    )
    rows = [row for row in rows if row]
    width, height = LEFT + CELL * (len(head) - 1), TOP + ROW * len(rows)
    parts = _cells(name, head[1:], [row[0] for row in rows], [row[1:] for row in rows])
    label = f"{name}: the share of each layer in the gradient of each feature map"
    return figure(width + 4, height + 4, label, parts)


def _cells(
    title: str, columns: Sequence[str], rows: Sequence[str], cells: Sequence[Sequence[str]]
) -> list[str]:
    """Return a table of percentages, which are the opacities; an empty cell is left out."""
    parts = [text((LEFT + CELL * len(columns)) / 2, 16, title, "title")]
    for column, name in enumerate(columns):
        parts.append(text(LEFT + CELL * (column + 0.5), TOP - 8, name))
    for index, (name, shares) in enumerate(zip(rows, cells)):
        y = TOP + ROW * index
        parts.append(text(LEFT - 8, y + ROW / 2 + 4.5, name, "end"))
        for column, share in enumerate(shares):
            if not share:
                continue
            x = LEFT + CELL * column
            opacity = int(share.rstrip("%")) / 100
            parts.append(
                f'<rect class="own" x="{x}" y="{y}" width="{CELL - 1}" height="{ROW - 1}" '
                f'fill-opacity="{opacity:g}"/>'
            )
            kind = "" if opacity else "note"
            parts.append(text(x + CELL / 2, y + ROW / 2 + 4.5, share, kind))
    return parts
