# SPDX-License-Identifier: Apache-2.0
"""Self-contained HTML pages with the project's style sheet, and their building blocks."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from PIL import Image

CSS = """
:root { --ink: #1d2433; --faint: #667085; --line: #e7eaf0; --bad: #c92a4b; --good: #12805c; }
* { box-sizing: border-box; }
body { margin: 0; background: #f6f7f9; color: var(--ink);
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial,
  sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 26px; font-weight: 650; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 17px; font-weight: 650; margin: 0 0 4px; }
p { margin: 0; color: var(--faint); }
header p { margin-top: 4px; }
section { background: #fff; border: 1px solid var(--line); border-radius: 12px;
  padding: 20px 24px; margin-top: 16px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px;
  margin-top: 20px; }
.tile { background: #fff; border: 1px solid var(--line); border-radius: 12px; padding: 14px 16px; }
.tile b { display: block; font-size: 24px; font-weight: 650; letter-spacing: -0.01em;
  font-variant-numeric: tabular-nums; }
.tile span { color: var(--faint); font-size: 13px; }
.split { display: grid; grid-template-columns: minmax(0, 1.9fr) minmax(0, 1fr); gap: 16px; }
.pair { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0 16px; }
code { overflow-wrap: anywhere; }
.images { display: grid; grid-template-columns: repeat(auto-fill, minmax(112px, 1fr));
  gap: 16px 12px; margin-top: 16px; }
figure { margin: 0; font-size: 13px; line-height: 1.35; }
figure img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; background: #000;
  border-radius: 8px; image-rendering: pixelated; margin-bottom: 6px; }
figcaption span { display: block; overflow-wrap: anywhere; }
.true { color: var(--faint); }
.right { color: var(--good); font-weight: 600; }
.wrong { color: var(--bad); font-weight: 600; }
.missed { color: #b54708; font-weight: 600; }
.boxes { grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr)); }
.boxes svg { display: block; width: 100%; max-height: 360px; border-radius: 8px; background: #000;
  margin-bottom: 6px; }
.boxes rect { fill: none; vector-effect: non-scaling-stroke; }
.boxes text { font-weight: 600; paint-order: stroke; stroke: #000; stroke-opacity: 0.7; }
.boxes figcaption span { display: inline; margin-right: 10px; }
.wide { overflow-x: auto; margin-top: 12px; }
.wide td { overflow-wrap: normal; }
th { padding: 5px 0 5px 12px; text-align: right; font-weight: 600; color: var(--faint); }
th:first-child { padding-left: 0; text-align: left; }
.columns { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 8px 40px;
  margin-top: 12px; }
table { width: 100%; border-collapse: collapse; font-size: 13px; }
h3 { font-size: 13px; font-weight: 600; color: var(--faint); margin: 8px 0 4px; }
td { padding: 5px 0; border-top: 1px solid var(--line); vertical-align: top;
  overflow-wrap: anywhere; }
.columns td:first-child { overflow-wrap: break-word; }
td + td { text-align: right; padding-left: 12px; font-variant-numeric: tabular-nums; }
@media (max-width: 860px) { .split, .pair, .columns { grid-template-columns: 1fr; } }
"""


def document(title: str, subtitle: str, body: str, plotly: bool = True) -> str:
    """Return a complete HTML page; title and subtitle are plain text.

    ``plotly`` includes the library, for the figures of :func:`plot`.
    """
    script = ""
    if plotly:
        # Imported here because plotly takes a second to import.
        from plotly.offline import get_plotlyjs

        script = f"<script>{get_plotlyjs()}</script>"
    title = escape(title)
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><link rel="icon" href="data:,">
<style>{CSS}</style>{script}</head>
<body><main>
<header><h1>{title}</h1><p>{escape(subtitle)}</p></header>
{body}
</main></body></html>
"""
    # Paths that are not text in the locale's encoding have surrogates, which no file can take.
    return page.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def section(title: str, body: str, note: str = "") -> str:
    """Return a titled section with an optional introductory note; all three are HTML."""
    return f"<section><h2>{title}</h2>{f'<p>{note}</p>' if note else ''}{body}</section>"


def plot(figure: Any) -> str:
    """Return a plotly figure as HTML; :func:`document` includes the library."""
    config = {"displaylogo": False, "responsive": True, "displayModeBar": False}
    return figure.to_html(full_html=False, include_plotlyjs=False, config=config)


def tiles(values: Iterable[tuple[str, str]]) -> str:
    """Return a row of tiles, each a value and its description."""
    cells = (
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for value, name in values
    )
    return f'<div class="tiles">{"".join(cells)}</div>'


def columns(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Return tables side by side, by their titles."""
    return f'<div class="columns">{"".join(table(*item) for item in tables.items())}</div>'


def table(title: str, values: Mapping[str, Any]) -> str:
    """Return a table with one row per name and value."""
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(_text(value))}</td></tr>"
        for name, value in values.items()
    )
    return f"<div><h3>{escape(title)}</h3><table>{rows}</table></div>"


def wide_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table with a head, which scrolls horizontally if it is wider than the page."""
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f'<div class="wide"><table><tr>{names}</tr>{body}</table></div>'


@dataclass(frozen=True)
class ClassifiedImage:
    """An image of a gallery, with the names of its true and its predicted class."""

    index: int  # in the data set
    pixels: np.ndarray  # uint8 (H, W, C) with one or three channels
    label: str
    prediction: str
    probability: float  # of the predicted class, 0 to 1


def gallery(images: Iterable[ClassifiedImage]) -> str:
    """Return images with their true and predicted classes."""
    cards = [
        f'<figure><img src="{image_url(image.pixels)}" alt="test image {image.index}" '
        f'title="test image {image.index}">'
        f'<figcaption><span class="true">true: {escape(image.label)}</span>'
        f'<span class="{"right" if image.label == image.prediction else "wrong"}">'
        f"{escape(image.prediction)}</span>"
        f'<span class="true">sure to {image.probability:.1%}</span></figcaption></figure>'
        for image in images
    ]
    return f'<div class="images">{"".join(cards)}</div>' if cards else "<p>There are none.</p>"


def image_url(pixels: np.ndarray, quality: int | None = None) -> str:
    """Return an image, uint8 (H, W, C) with one or three channels, as a data URL.

    It is PNG, or JPEG of a ``quality`` of up to 100.
    """
    buffer = io.BytesIO()
    kind, options = ("jpeg", {"quality": quality}) if quality else ("png", {})
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image.save(buffer, kind, **options)
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode()


def _text(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return ", ".join(map(_text, value)) or "none"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
