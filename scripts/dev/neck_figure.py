# SPDX-License-Identifier: Apache-2.0
"""Draw the necks of the detectors from their tables: ``docs/assets/detection/necks.svg``.

The page includes the file as HTML, so that its colors are those of the page, light or dark.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gluondense.detection.necks import NECKS, Gather, Neck
from gluondense.detection.spec import STRIDES

FIGURE = Path(__file__).parents[2] / "docs" / "assets" / "detection" / "necks.svg"
PANEL, TOP, ROW = 300, 70, 62
MAP, LATERAL, FUSED, HEAD = 14, 88, 168, 226  # left edges of the columns
BOX, HEIGHT = 46, 30
TITLES = {"fpn": "FPN (YOLOv3)", "gfm": "GFM: global fusion", "efm": "EFM: exact fusion"}
KINDS = {"finer": "space to depth", "same": "same size", "coarser": "upsample"}
ENDS = {"finer": -9, "same": 0, "coarser": 9}  # so that the tips do not cover each other
STYLE = """
.necks { --line: var(--md-default-fg-color--light, #555); max-width: 100%; height: auto; }
.necks text { fill: var(--md-default-fg-color, #222); font: 13px sans-serif; text-anchor: middle; }
.necks .title { font-weight: 600; font-size: 15px; }
.necks .note { text-anchor: start; }
.necks rect { fill: var(--md-code-bg-color, #f3f3f3); stroke: var(--line); }
.necks path { fill: none; stroke: var(--line); stroke-width: 1.6; }
.necks .finer { stroke: #d9822b; } .necks .coarser { stroke: #3b8ed0; }
.necks .tip { fill: var(--line); stroke: none; }
"""


def draw() -> str:
    """Return the figure as one HTML block: no line of it is empty."""
    rows = sorted({4, *STRIDES, 64})
    y = {stride: TOP + ROW * index for index, stride in enumerate(rows)}
    width, height = PANEL * len(NECKS), TOP + ROW * len(rows) + 10
    label = "Which feature maps the necks FPN, GFM and EFM fuse at strides 8, 16 and 32."
    parts = [
        f'<svg class="necks" width="{width}" viewBox="0 0 {width} {height + 20}" role="img" '
        f'aria-label="{label}" xmlns="http://www.w3.org/2000/svg">',
        f"<style>{STYLE.strip()}</style>",
        '<defs><marker id="tip" viewBox="0 0 6 6" refX="5" refY="3" markerWidth="5" '
        'markerHeight="5" orient="auto"><path class="tip" d="M0 0L6 3L0 6z"/></marker></defs>',
    ]
    for index, (name, neck) in enumerate(NECKS.items()):
        parts.append(f'<g transform="translate({PANEL * index} 0)">')
        parts.append(f'<text class="title" x="{PANEL // 2}" y="24">{TITLES[name]}</text>')
        parts += _panel(neck, y)
        parts.append("</g>")
    parts += _legend(height)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(neck: type[Neck], y: dict[int, int]) -> list[str]:
    parts = [_box(MAP, y[stride], f"C{stride}") for stride in neck.strides]
    for stride in STRIDES:
        parts.append(_box(FUSED, y[stride], f"F{stride}"))
        parts.append(_box(HEAD + 14, y[stride], "head"))
        parts.append(_arrow(FUSED + BOX, y[stride], HEAD + 14, y[stride], "same"))
    if not issubclass(neck, Gather):
        for stride in STRIDES:
            parts.append(_arrow(MAP + BOX, y[stride], FUSED, y[stride], "same"))
        for coarse, fine in zip(STRIDES[1:], STRIDES):
            start, end = (HEAD + 14 + BOX // 2, y[coarse] - HEIGHT // 2), (FUSED + 23, y[fine] + 15)
            middle = (start[1] + end[1]) // 2
            curve = (
                f"M{start[0]} {start[1]}C{start[0]} {middle} {end[0]} {middle} {end[0]} {end[1]}"
            )
            parts.append(f'<path class="coarser" d="{curve}" marker-end="url(#tip)"/>')
        return parts
    for stride in sorted({each for sources in neck.sources.values() for each in sources}):
        parts.append(_box(LATERAL, y[stride], f"L{stride}"))
        source = min(stride, STRIDES[-1])
        parts.append(_arrow(MAP + BOX, y[source], LATERAL, y[stride], "same"))
    for target, sources in neck.sources.items():
        for source in sources:
            kind = "same" if source == target else "finer" if source < target else "coarser"
            parts.append(_arrow(LATERAL + BOX, y[source], FUSED, y[target] + ENDS[kind], kind))
    return parts


def _box(x: int, y: int, text: str) -> str:
    rect = f'<rect x="{x}" y="{y - HEIGHT // 2}" width="{BOX}" height="{HEIGHT}" rx="4"/>'
    return f'{rect}<text x="{x + BOX // 2}" y="{y + 5}">{text}</text>'


def _arrow(x1: int, y1: int, x2: int, y2: int, kind: str) -> str:
    return f'<path class="{kind}" d="M{x1} {y1}L{x2} {y2}" marker-end="url(#tip)"/>'


def _legend(y: int) -> list[str]:
    parts = []
    for index, (kind, text) in enumerate(KINDS.items()):
        x = 200 + 190 * index
        parts.append(f'<path class="{kind}" d="M{x} {y}h34" marker-end="url(#tip)"/>')
        parts.append(f'<text class="note" x="{x + 42}" y="{y + 5}">{text}</text>')
    return parts


def main() -> int:
    """Write the figure; return the exit code."""
    FIGURE.write_text(draw(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
