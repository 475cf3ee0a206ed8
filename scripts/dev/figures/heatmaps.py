# SPDX-License-Identifier: Apache-2.0
"""The tables of gradient flow in docs/explain.md as heat maps."""

from __future__ import annotations

import re
from pathlib import Path

from .svg import figure, text

PAGE = Path(__file__).parents[3] / "docs" / "explain.md"
LEFT, TOP, CELL, ROW = 78, 54, 44, 28


def gradient_flow() -> dict[str, str]:
    """Return the SVG of each network; explain_page.py computes the tables of the page."""
    page = PAGE.read_text(encoding="utf-8")
    (computed,) = re.findall(r"<!-- computed: shares -->(.*?)<!-- end -->", page, re.DOTALL)
    tables = re.findall(r"^(\S.*):\n\n((?:\|.*\n)+)", computed, re.MULTILINE)
    return {name.rpartition(" ")[2].lower(): _heatmap(name, table) for name, table in tables}


def _heatmap(name: str, table: str) -> str:
    head, _, *rows = (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in table.split("\n")
    )
    rows = [row for row in rows if row]
    width, height = LEFT + CELL * (len(head) - 1), TOP + ROW * len(rows)
    parts = [text(width / 2, 16, name, "title")]
    for column, gradient in enumerate(head[1:]):
        parts.append(text(LEFT + CELL * (column + 0.5), TOP - 8, gradient))
    for index, (layer, *shares) in enumerate(rows):
        y = TOP + ROW * index
        parts.append(text(LEFT - 8, y + ROW / 2 + 4.5, layer, "end"))
        for column, share in enumerate(shares):
            x = LEFT + CELL * column
            opacity = int(share.rstrip("%")) / 100
            parts.append(
                f'<rect class="own" x="{x}" y="{y}" width="{CELL - 1}" height="{ROW - 1}" '
                f'fill-opacity="{opacity:g}"/>'
            )
            kind = "" if opacity else "note"
            parts.append(text(x + CELL / 2, y + ROW / 2 + 4.5, share, kind))
    label = f"{name}: the share of each layer in the gradient of each feature map"
    return figure(width + 4, height + 4, label, parts)
