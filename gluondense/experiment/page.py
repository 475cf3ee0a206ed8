# SPDX-License-Identifier: Apache-2.0
"""The page of an experiment: mean and spread over the seeds, beside published results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

from ..files import write_bytes
from ..reports.figures import LEGEND, styled
from ..reports.page import document, plot, section, wide_table
from .results import Group, Result

__all__ = ["write_page"]

# Okabe and Ito's colors, which colour-blind readers can tell apart.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666")


def write_page(title: str, groups: Sequence[Group], planned: int, path: Path) -> None:
    """Write the results of the complete runs into one HTML file, which opens offline."""
    done = sum(len(group.results) for group in groups)
    state = f"{done} of {planned} runs are complete"
    body = section("Results", wide_table(HEAD, map(_row, groups)), NOTE)
    if groups:
        costs = "Each point is the mean over the seeds; the bars reach from the least to the most."
        curves = "After each epoch; the mean over the seeds, and the range between them."
        body += section("Result and multiply-adds", plot(_against_macs(groups)), costs)
        body += section("Training", plot(_curves(groups)), curves)
        body += section("Runs", _runs(groups))
    write_bytes(path, document(title, state, body).encode())


HEAD = (
    "",
    "test images",
    "spread",
    "seeds",
    "published",
    "parameters",
    "multiply-adds",
    "training time",
)
NOTE = (
    "On the test images after the last epoch. The spread is the standard deviation over the seeds. "
    "Published results are of the same network on the same data, usually trained for longer."
)


def _row(group: Group) -> list[str]:
    metric, shown = group.metric, group.metric.format
    spread = "" if math.isnan(group.deviation) else f"± {group.deviation:{shown}}"
    published = [f"{1 - error.top1 / 100:.2%} ({error.source})" for error in group.published]
    return [
        group.name,
        f"{metric.name} {group.mean:{shown}}",
        spread,
        str(len(group.results)),
        "; ".join(published) or "none",
        f"{group.cost.params:,}",
        f"{group.cost.macs / 1e6:,.1f} M",
        f"{group.seconds / 60:,.1f} min",
    ]


def _against_macs(groups: Sequence[Group]) -> go.Figure:
    figure = go.Figure()
    for number, group in enumerate(groups):
        figure.add_scatter(
            x=[group.cost.macs / 1e6],
            y=[group.mean],
            error_y={
                "array": [max(group.values) - group.mean],
                "arrayminus": [group.mean - min(group.values)],
            },
            name=escape(group.name),
            mode="markers",
            marker={"size": 11, "color": COLORS[number % len(COLORS)]},
            hovertemplate=f"%{{y:{group.metric.format}}}, %{{x:.1f}} M multiply-adds",
        )
    figure.update_xaxes(title="multiply-adds of an image (millions)")
    return _labelled(figure, groups)


def _curves(groups: Sequence[Group]) -> go.Figure:
    figure = go.Figure()
    for number, group in enumerate(groups):
        color = COLORS[number % len(COLORS)]
        epochs = [row["epoch"] for row in max((r.log for r in group.results), key=len)]
        # An epoch a row: runs of a patience differ in length.
        values = np.array(list(zip_longest(*map(_history, group.results), fillvalue=math.nan)))
        sides = (np.nanmin(values, axis=1), np.nanmax(values, axis=1))
        band: dict[str, Any] = {
            "x": epochs + epochs[::-1],
            "y": [*sides[1], *sides[0][::-1]],
            "fill": "toself",
            "fillcolor": color,
            "opacity": 0.2,
            "line": {"width": 0},
            "legendgroup": group.name,
        }
        figure.add_scatter(**band, mode="lines", hoverinfo="skip", showlegend=False)
        figure.add_scatter(
            x=epochs,
            y=np.nanmean(values, axis=1),
            name=escape(group.name),
            mode="lines",
            legendgroup=group.name,
            line={"color": color, "width": 2},
            hovertemplate=f"%{{y:{group.metric.format}}}",
        )
    figure.update_xaxes(title="epoch")
    figure.update_layout(hovermode="x unified")
    return _labelled(figure, groups)


def _history(result: Result) -> list[float]:
    return [row[result.metric.column] for row in result.log]


def _labelled(figure: go.Figure, groups: Sequence[Group]) -> go.Figure:
    metric = groups[0].metric
    ticks = ".3~p" if metric.format.endswith("%") else ".3~g"
    figure.update_yaxes(title=f"test {metric.name}", tickformat=ticks)
    margin = {"l": 72, "r": 16, "t": 40, "b": 48}
    figure.update_layout(legend={**LEGEND, "x": 0}, margin=margin)
    return styled(figure, height=420)


def _runs(groups: Sequence[Group]) -> str:
    """Return a table of all runs with links to their reports."""
    rows = []
    for group in groups:
        for result in group.results:
            report = escape(f"{result.folder.name}/report.html", quote=True)
            rows.append(
                f'<tr><td><a href="{report}">{escape(result.folder.name)}</a></td>'
                f"<td>{result.metric.show(result.last)}</td>"
                f"<td>{result.last['wall_s'] / 60:,.1f} min</td></tr>"
            )
    head = "<tr><th>run</th><th>result</th><th>training time</th></tr>"
    return f'<div class="wide"><table>{head}{"".join(rows)}</table></div>'
