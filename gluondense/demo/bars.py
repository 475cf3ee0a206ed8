# SPDX-License-Identifier: Apache-2.0
"""An answer as HTML: a bar for each class, and class activation maps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np

from ..reports.page import image_url

CSS = """
#heading .html-container { padding: 0; }
#image .image-frame img { width: 100%; height: 100%; object-fit: contain; }
.bars { display: grid; grid-template-columns: minmax(4em, max-content) 1fr max-content;
  gap: 10px 14px; align-items: center; font-size: 15px; }
.bars .label { overflow-wrap: anywhere; max-width: 18em; }
.bars .value { text-align: right; font-variant-numeric: tabular-nums; }
.bars .track { position: relative; height: 14px; border-radius: 7px;
  background: var(--border-color-primary); }
.bars .fill { height: 100%; border-radius: 7px; background: #0d9488; }
.bars .below .fill { background: #94a3b8; }
.bars .threshold { position: absolute; top: -4px; bottom: -4px; width: 2px;
  background: var(--body-text-color); }
.maps { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 14px;
  margin-top: 10px; }
.maps figure { margin: 0; font-size: 14px; overflow-wrap: anywhere; }
.maps img { display: block; width: 100%; border-radius: 8px; margin-bottom: 4px; }
.answer p { margin: 14px 0 0; color: #667085; }
.answer p.problem { margin: 0; color: #c92a4b; font-weight: 600; }
"""


def bars(
    labels: Sequence[str], values: Sequence[float], thresholds: Iterable[float] | None = None
) -> str:
    """Return a bar for each label, of a probability in [0, 1].

    A threshold is a line across the bar; a value below it has a grey bar.

    Examples
    --------
    >>> "97.1 %" in bars(["cat"], [0.971])
    True
    """
    marks = [None] * len(labels) if thresholds is None else list(thresholds)
    rows = "".join(map(_row, labels, values, marks))
    return f'<div class="bars">{rows}</div>'


def _row(label: str, value: float, threshold: float | None) -> str:
    mark, state = "", ""
    if threshold is not None:
        title = f"threshold {threshold:.1%}"
        mark = f'<div class="threshold" style="left:{threshold:.2%}" title="{title}"></div>'
        state = " below" * (value < threshold)
    return (
        f'<div class="label">{escape(label)}</div>'
        f'<div class="track{state}"><div class="fill" style="width:{value:.2%}"></div>{mark}</div>'
        f'<div class="value">{100 * value:.1f} %</div>'
    )


def maps(drawn: Mapping[str, np.ndarray]) -> str:
    """Return images, uint8 (H, W, 3), side by side above their labels."""
    figures = "".join(
        f'<figure><img src="{image_url(pixels, quality=90)}" alt="{escape(label)}">'
        f"<figcaption>{escape(label)}</figcaption></figure>"
        for label, pixels in drawn.items()
    )
    return f'<p>Evidence for each class: red is most.</p><div class="maps">{figures}</div>'


def note(text: str) -> str:
    """Return a paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def answer(*parts: str) -> str:
    """Return the parts of an answer, which are HTML, as one block."""
    return f'<div class="answer">{"".join(parts)}</div>'


def problem(message: str) -> str:
    """Return a message of plain text where an answer would be."""
    return answer(f'<p class="problem" role="alert">{escape(message)}</p>')
