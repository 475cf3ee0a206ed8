# SPDX-License-Identifier: Apache-2.0
"""Plotly figures of the inference benchmark."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from gluondense.reports.figures import LEGEND, styled
from gluondense.reports.palette import FAINT

from ..workers.backends import PRECISIONS

Row = dict[str, Any]

# One color per engine for all precisions; this project's are warm.
COLORS = {
    "native": "#e0317b",
    "onednn": "#f08c00",
    "portable": "#b08900",
    "openvino": "#1d4ba8",
    "onnxruntime": "#12a594",
    "torch": "#8e5bd6",
    "torch.compile": "#5b3a94",
    "mxnet-zoo": "#667085",
}
OTHER = {True: "#c2410c", False: "#344054"}  # this project's backends and peers without a color
DASHES = {"fp32": "solid", "bf16": "dot", "int8": "dash"}
BATCHES = ("#1d4ba8", "#84a9ec", "#12a594", "#f08c00", "#e0317b")


def color(row: Row) -> str:
    """Return the color of a row's backend."""
    name = row["name"].replace("_int8", "").replace("-int8", "").replace("-bf16", "")
    return COLORS.get(name, OTHER[row["ours"]])


def ratio_figure(rows: Sequence[Row]) -> go.Figure:
    """Plot ratios of times to the best peer of the same precision, with quartiles of the rounds."""
    names = list(dict.fromkeys(_label(row) for row in _by_precision(rows)))
    figure = go.Figure()
    for number, batch in enumerate(dict.fromkeys(row["batch"] for row in rows)):
        group = [row for row in rows if row["batch"] == batch and row["to_best_peer"]]
        found = [row["to_best_peer"] for row in group]
        ratios = [ratio["ratio"] for ratio in found]
        figure.add_scatter(
            x=ratios,
            y=[_label(row) for row in group],
            name=f"batch {batch}",
            mode="markers",
            orientation="h",
            offsetgroup=str(batch),
            marker={"color": BATCHES[number % len(BATCHES)], "size": 9},
            error_x=_error_bars(ratios, [ratio["quartiles"] for ratio in found]),
            customdata=[[row["median_ms"], row["to_best_peer"]["name"]] for row in group],
            hovertemplate="%{y}: %{x:.2f} of %{customdata[1]}, %{customdata[0]:.1f} ms an image",
        )
    figure.add_vline(x=1, line={"color": FAINT, "width": 1, "dash": "dot"})
    margin = {"l": 150, "r": 24, "t": 40, "b": 48}
    # Groups are side by side instead of overlapping.
    figure.update_layout(scattermode="group", margin=margin, legend={**LEGEND, "x": 0})
    figure.update_yaxes(categoryorder="array", categoryarray=names[::-1], type="category")
    figure.update_xaxes(title="time over the best peer's, same precision", type="log")
    figure.update_xaxes(tickvals=[0.25, 0.5, 0.7, 0.8, 1, 1.25, 1.5, 2, 3, 4, 6, 8], tickangle=0)
    return styled(figure, height=130 + 30 * len(names))


def latency_figure(rows: Sequence[Row], key: str) -> go.Figure:
    """Plot the time per image against ``key``: ``"batch"`` or ``"size"``."""
    titles = {"batch": "images at a time", "size": "height and width of the image"}
    return _lines(rows, key, "median_ms", "quartiles_ms", (titles[key], "ms an image"))


def throughput_figure(rows: Sequence[Row]) -> go.Figure:
    """Plot images per second against the number of processes."""
    return _lines(
        rows, "workers", "images_per_s", "quartiles", ("processes of one thread", "images a second")
    )


def memory_figure(rows: Sequence[Row]) -> go.Figure:
    """Plot a process's resident memory after its first prediction."""
    rows = _by_precision(rows)
    bars = go.Bar(
        x=[row["rss_mb"] for row in rows],
        y=[_label(row) for row in rows],
        orientation="h",
        marker={"color": [color(row) for row in rows]},
        text=[f"{row['rss_mb']:.0f}" for row in rows],
        hovertemplate="%{y}: %{x:.0f} MB<extra></extra>",
    )
    return _bars(go.Figure(bars), len(rows), "MB after the first prediction")


def start_figure(rows: Sequence[Row]) -> go.Figure:
    """Plot imports, loading and the first prediction of a process."""
    rows = _by_precision(rows)
    parts = (
        ("imports", "#1d4ba8", [row["import_s"] for row in rows]),
        ("loading", "#84a9ec", [row["load_s"] for row in rows]),
        ("prediction", "#f08c00", [r["first_s"] - r["import_s"] - r["load_s"] for r in rows]),
    )
    figure = go.Figure()
    for name, shade, seconds in parts:
        figure.add_bar(
            x=seconds,
            y=[f"{_label(row)} {row['first_s']:.1f} s" for row in rows],
            name=name,
            orientation="h",
            marker={"color": shade},
            hovertemplate=f"%{{y}}: {name} %{{x:.2f}} s<extra></extra>",
        )
    figure.update_layout(barmode="stack", legend=LEGEND)
    # A backend that compiles for a minute would compress the other bars.
    totals = [row["first_s"] for row in rows]
    figure.update_xaxes(range=[0, min(1.05 * max(totals), 4 * statistics.median(totals))])
    return _bars(figure, len(rows), "seconds to the first prediction")


def _error_bars(values: Sequence[float], quartiles: Sequence[Sequence[float]]) -> dict[str, Any]:
    above = [high - value for value, (_, high) in zip(values, quartiles)]
    below = [value - low for value, (low, _) in zip(values, quartiles)]
    return {"array": above, "arrayminus": below, "thickness": 1.2, "width": 3}


def _label(row: Row) -> str:
    return f"<b>{row['name']}</b>" if row["ours"] else row["name"]


def _by_precision(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: PRECISIONS.index(row["precision"]))


def _bars(figure: go.Figure, count: int, title: str) -> go.Figure:
    figure.update_layout(margin={"l": 150, "r": 16, "t": 36, "b": 48}, bargap=0.25)
    figure.update_yaxes(autorange="reversed", showgrid=False, type="category")
    figure.update_xaxes(title=title)
    return styled(figure, height=110 + 26 * count)


def _lines(rows: Sequence[Row], x: str, y: str, spread: str, titles: tuple[str, str]) -> go.Figure:
    figure = go.Figure()
    for name in dict.fromkeys(row["name"] for row in _by_precision(rows)):
        group = sorted((row for row in rows if row["name"] == name), key=lambda row: row[x])
        first, values = group[0], [row[y] for row in group]
        figure.add_scatter(
            x=[row[x] for row in group],
            y=values,
            name=_label(first),
            mode="lines+markers",
            line={"color": color(first), "width": 3 if first["ours"] else 1.5},
            line_dash=DASHES[first["precision"]],
            error_y=_error_bars(values, [row[spread] for row in group]),
            hovertemplate="%{y:.1f}",
        )
    ticks = sorted({row[x] for row in rows})
    margin = {"l": 64, "r": 16, "t": 16, "b": 48}
    figure.update_layout(hovermode="x unified", margin=margin, legend={"font_size": 11})
    figure.update_xaxes(title=titles[0], type="log", tickvals=ticks, ticktext=list(map(str, ticks)))
    figure.update_yaxes(title=titles[1], rangemode="tozero")
    return styled(figure, height=380)
