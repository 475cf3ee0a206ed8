# SPDX-License-Identifier: Apache-2.0
"""The parts of an SVG figure and its colors.

The site includes a figure as HTML (site_pages.py), so that its colors are those of the page. As an
image, on GitHub, it has the colors given here, light or dark as the reader's system; README.md has
a separate file for GitHub's own dark theme.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

LIGHT = {"ink": "#1d2433", "line": "#667085", "box": "#f1f3f6", "peer": "#a3adba"}
DARK = {"ink": "#e6e9ef", "line": "#98a2b3", "box": "#2a2f3a", "peer": "#69758a"}
STYLE = """
.figure {{ max-width: 100%; height: auto;
--ink: var(--md-default-fg-color, {ink}); --line: var(--md-default-fg-color--light, {line});
--box: var(--md-code-bg-color, {box}); --peer: {peer}; }}
[data-md-color-scheme="slate"] .figure {{ --peer: {dark_peer}; }}
@media (prefers-color-scheme: dark) {{ .figure:root {{
--ink: {dark_ink}; --line: {dark_line}; --box: {dark_box}; --peer: {dark_peer}; }} }}
.figure text {{ fill: var(--ink); font: 13px system-ui, sans-serif; text-anchor: middle; }}
.figure .title {{ font-weight: 600; font-size: 15px; }} .figure .name {{ font-weight: 600; }}
.figure .start {{ text-anchor: start; }} .figure .end {{ text-anchor: end; }}
.figure .note {{ fill: var(--line); font-size: 12px; }}
.figure rect {{ fill: var(--box); stroke: var(--line); }}
.figure .map {{ fill: none; stroke: none; }} .figure .join {{ stroke-dasharray: 3 3; }}
.figure path {{ fill: none; stroke: var(--line); stroke-width: 1.6; }}
.figure .teal {{ stroke: #12a594; }} .figure .orange {{ stroke: #d9822b; }}
.figure .blue {{ stroke: #3b8ed0; }}
.figure .grid {{ stroke-width: 1; opacity: 0.3; }}
.figure .tip {{ fill: var(--line); stroke: none; }}
.figure .own {{ fill: #12a594; stroke: none; }} .figure .peer {{ fill: var(--peer); stroke: none; }}
"""
_TIP = (
    '<defs><marker id="tip" viewBox="0 0 6 6" refX="5" refY="3" markerWidth="5" markerHeight="5" '
    'orient="auto"><path class="tip" d="M0 0L6 3L0 6z"/></marker></defs>'
)


def figure(width: int, height: int, label: str, parts: Iterable[str], dark: bool = False) -> str:
    """Return a figure; it has no empty line, which would end a block of HTML in Markdown.

    ``label`` says what it shows to those who cannot see it.
    """
    at_night = {f"dark_{name}": color for name, color in DARK.items()}
    colors = STYLE.format(**(DARK if dark else LIGHT), **at_night)
    head = (
        f'<svg class="figure" width="{width}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(label)}" xmlns="http://www.w3.org/2000/svg">'
    )
    return "\n".join([head, f"<style>{colors.strip()}</style>", _TIP, *parts, "</svg>"]) + "\n"


def text(x: float, y: float, content: str, kind: str = "") -> str:
    """Return a line of text; ``kind`` is a class of the style."""
    name = f' class="{kind}"' if kind else ""
    return f'<text{name} x="{x:g}" y="{y:g}">{escape(content)}</text>'


def box(x: float, y: float, width: float, height: float, content: str, kind: str = "") -> str:
    """Return a rectangle centered at x and y, with a line of text."""
    name = f' class="{kind}"' if kind else ""
    rect = (
        f'<rect{name} x="{x - width / 2:g}" y="{y - height / 2:g}" width="{width:g}" '
        f'height="{height:g}" rx="4"/>'
    )
    return rect + text(x, y + 5, content)


def arrow(path: str, kind: str = "") -> str:
    """Return a line with a tip along the commands of an SVG path."""
    name = f' class="{kind}"' if kind else ""
    return f'<path{name} d="{path}" marker-end="url(#tip)"/>'


def group(x: float, y: float, parts: Iterable[str]) -> str:
    """Return parts moved by x and y."""
    return "\n".join([f'<g transform="translate({x:g} {y:g})">', *parts, "</g>"])
