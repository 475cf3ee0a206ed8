# SPDX-License-Identifier: Apache-2.0
"""A page of charts that compares the costs of networks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..analysis.comparison import COLUMNS, network_part, table
from ..analysis.costs import Summary
from .page import document, plot, section

# Prefix of the model -> name, colour, position of the labels; the first matching prefix counts. The
# colours are safe for colour-blind readers (Okabe and Ito). The positions differ because a
# CSP-DenseNet is just below its DenseNet.
FAMILIES = {
    "csp_densenet": ("CSP-DenseNet", "#d55e00", "bottom center"),
    "csp_resne": ("CSPResNe(X)t", "#cc79a7", "bottom right"),
    "densenet": ("DenseNet", "#0072b2", "top center"),
    "dpn": ("DPN", "#009e73", "middle right"),
    "csp_darknet": ("CSPDarknet", "#a6761d", "bottom right"),
    "darknet": ("Darknet", "#e69f00", "top right"),
    "csp_peleenet": ("CSP-PeleeNet", "#332288", "bottom right"),
    "peleenet": ("PeleeNet", "#56b4e9", "top right"),
    "rdnet": ("RDNet", "#882255", "middle right"),
    "": ("other", "#666666", "middle left"),
}
PARTS = {
    "stem": "#bdbdbd",
    "stage1": "#c6dbef",
    "stage2": "#6baed6",
    "stage3": "#2171b5",
    "stage4": "#08306b",
    "stage5": "#041836",  # Darknet
    "transitions": "#fdae6b",
    "output": "#525252",
    "other": "#d9d9d9",
}
LABELLED = 25  # more names would overlap in the scatter chart and are only shown on hover


def write_costs_page(costs: Sequence[Summary], path: str | os.PathLike[str]) -> None:
    """Write one HTML file with charts and a table, in the order of ``costs``; it opens offline."""
    inputs = ", ".join(dict.fromkeys(map(COLUMNS["input"], costs)))
    subtitle = (
        f"Counted for input {inputs}. Multiply-adds (MACs) and activations are those of "
        "convolutions and fully-connected layers, memory is all outputs in float32, and CIO is the "
        "elements that the convolutions read and write."
    )
    area = "The area of a bubble is proportional to the activations."
    limits, shares = "These limit the speed and the batch size.", "Share of each network part."
    numbers = f'<div style="overflow-x: auto; white-space: nowrap">{table(costs, "html")}</div>'
    sections = (
        section("Parameters and multiply-adds", plot(_bubbles(costs)), area),
        section("Activations, memory and CIO", plot(_bars(costs)), limits),
        section("Distribution of the multiply-adds", plot(_parts(costs)), shares),
        section("All numbers", numbers),
    )
    page = document("Costs of the networks", subtitle, "".join(sections))
    Path(path).write_text(page, encoding="utf-8")


def _family(cost: Summary) -> str:
    return next(family for family in FAMILIES if cost.model.startswith(family))


def _layout(figure: go.Figure, height: int, **layout: Any) -> go.Figure:
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 10, "r": 40, "t": 40, "b": 10},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1, "x": 0, "traceorder": "normal"},
        **layout,
    )
    return figure.update_xaxes(automargin=True).update_yaxes(automargin=True, ticksuffix=" ")


def _bubbles(costs: Sequence[Summary]) -> go.Figure:
    # Networks of equal cost to two digits (68 and 68b …) share one bubble with all their names.
    bubbles: dict[tuple[str, str, str], list[Summary]] = {}
    for cost in costs:
        key = _family(cost), f"{cost.params:.1e}", f"{cost.macs:.1e}"
        bubbles.setdefault(key, []).append(cost)
    most = max(cost.activations for cost in costs)
    figure = go.Figure()
    for family, (label, colour, position) in FAMILIES.items():
        groups = [group for key, group in bubbles.items() if key[0] == family]
        if not groups:
            continue
        names = [", ".join(cost.model for cost in group) for group in groups]
        figure.add_scatter(
            x=[group[0].params / 1e6 for group in groups],
            y=[group[0].macs / 1e9 for group in groups],
            text=names,
            customdata=[
                [COLUMNS["input"](group[0]), group[0].activations / 1e6] for group in groups
            ],
            name=label,
            mode="markers+text" if len(bubbles) <= LABELLED else "markers",
            textposition=position,
            cliponaxis=False,
            marker={
                "color": colour,
                "opacity": 0.7,
                "size": [group[0].activations for group in groups],
                "sizemode": "area",
                "sizeref": 2 * most / 45**2,
                "sizemin": 4,
            },
            hovertemplate="<b>%{text}</b><br>%{customdata[0]}<br>%{x:.2f} M parameters"
            "<br>%{y:.3f} G multiply-adds<br>%{customdata[1]:.2f} M activations<extra></extra>",
        )
    figure.update_xaxes(title="parameters (millions)", type=_scale([c.params for c in costs]))
    figure.update_yaxes(title="multiply-adds (billions)", type=_scale([c.macs for c in costs]))
    figure = _layout(figure, 560)
    return figure.update_layout(margin_r=150)  # space for the names of the largest networks


def _scale(values: Iterable[int]) -> str:
    """Return the axis type: logarithmic if a linear axis would compress small values."""
    values = sorted(values)
    return "log" if values[0] and values[-1] / values[0] > 4 else "linear"


def _bars(costs: Sequence[Summary]) -> go.Figure:
    titles = {"activations": "activations (M)", "memory": "memory (MB)", "cio": "CIO (M)"}
    figure = make_subplots(
        1, 3, shared_yaxes=True, subplot_titles=list(titles.values()), horizontal_spacing=0.03
    )
    for column, total in enumerate(titles, start=1):
        values = [getattr(cost, total) / 1e6 for cost in costs]
        figure.add_bar(
            x=values,
            y=[cost.model for cost in costs],
            orientation="h",
            marker_color=[FAMILIES[_family(cost)][1] for cost in costs],
            text=[f"{value:,.1f}" for value in values],
            textangle=0,
            hovertemplate=f"<b>%{{y}}</b><br>%{{x:,.2f}} {titles[total]}<extra></extra>",
            row=1,
            col=column,
        )
    figure.update_yaxes(autorange="reversed")
    return _layout(figure, 90 + 24 * len(costs), showlegend=False, bargap=0.25)


def _parts(costs: Sequence[Summary]) -> go.Figure:
    macs: dict[str, list[float]] = {part: [0.0] * len(costs) for part in PARTS}
    for index, cost in enumerate(costs):
        for layer in cost.layers:
            part = network_part(layer.name)
            part = "transitions" if part.startswith("transition") else part
            macs[part if part in PARTS else "other"][index] += layer.macs
    figure = go.Figure()
    for part, values in macs.items():
        if any(values):
            figure.add_bar(
                x=[value / max(cost.macs, 1) for value, cost in zip(values, costs)],
                y=[cost.model for cost in costs],
                customdata=[value / 1e6 for value in values],
                name=part,
                orientation="h",
                marker_color=PARTS[part],
                hovertemplate=f"<b>%{{y}}</b>, {part}<br>%{{customdata:,.1f}} M, %{{x:.1%}}"
                "<extra></extra>",
            )
    figure.update_xaxes(tickformat=".0%", range=[0, 1])
    figure.update_yaxes(autorange="reversed")
    return _layout(figure, 110 + 24 * len(costs), barmode="stack", bargap=0.25)
