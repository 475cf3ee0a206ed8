# SPDX-License-Identifier: Apache-2.0
"""Tables and the HTML page of the training benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from gluondense.reports.figures import styled
from gluondense.reports.page import document, plot, section, table

COLUMNS = ("model", "batch", "size", "name", "ms", "ratio", "peak", "maps", "share", "planned")
COLORS = {True: "#e0317b", False: "#1d4ba8"}  # this project's and peers


def text(rows: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table of the training benchmark's rows.

    ``ms`` is per image, ``ratio`` the time over the base's, ``peak`` and ``maps`` are MB at the
    peak and of feature maps.
    """
    lines = [" | ".join(COLUMNS), "|".join("---" for _ in COLUMNS)]
    for row in rows:
        cells = [row[key] for key in ("model", "batch", "size", "name")]
        cells += [f"{row['ms']:.1f}", f"{row['ratio']:.2f}", f"{row['peak']:.0f}"]
        cells += [f"{row['maps']:.0f}", f"{row['share']:.2f}", row["planned"] or "-"]
        lines.append(" | ".join(map(str, cells)))
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def page(content: dict[str, Any]) -> str:
    """Return an HTML page of the training benchmark: memory against time."""
    sections = []
    for case in dict.fromkeys((row["model"], row["batch"]) for row in content["rows"]):
        rows = [row for row in content["rows"] if (row["model"], row["batch"]) == case]
        sections.append(section(escape(f"{case[0]}, batch {case[1]}"), plot(_figure(rows))))
    subtitle = f"{content['date']} · {content['threads']} threads · interleaved backends"
    command = f"<p><code>{escape(content['command'])}</code></p>"
    about = f"<section>{table('Versions', content['versions'])}{command}</section>"
    return document("Training: memory against time", subtitle, "".join(sections) + about)


def _figure(rows: Sequence[dict[str, Any]]) -> go.Figure:
    figure = go.Figure()
    for ours in (True, False):
        group = [row for row in rows if row["ours"] is ours]
        figure.add_scatter(
            x=[row["ms"] for row in group],
            y=[row["maps"] for row in group],
            text=[row["name"] for row in group],
            name="gluondense" if ours else "peers",
            mode="markers+text",
            textposition=[_side(row, rows) for row in group],
            cliponaxis=False,
            marker={"color": COLORS[ours], "size": 10},
        )
    styled(figure, height=420).update_layout(margin_t=20)
    for update, key, title in (
        (figure.update_xaxes, "ms", "ms an image"),
        (figure.update_yaxes, "maps", "MB of feature maps"),
    ):
        update(title=title, range=[0, 1.1 * max(row[key] for row in rows)])
    return figure


def _side(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """Place a point's label below it if another point is close above."""
    close = {key: 0.15 * max(other[key] for other in rows) for key in ("ms", "maps")}
    crowded = any(
        abs(other["ms"] - row["ms"]) < close["ms"]
        and 0 < other["maps"] - row["maps"] < close["maps"]
        for other in rows
    )
    return "bottom center" if crowded else "top center"
