"""Networks side by side: as a table, and as a page of charts."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots
from tabulate import tabulate

from .costs import Summary

# Heading -> how the table shows it.
COLUMNS = {
    "network": lambda cost: cost.model,
    "input": lambda cost: "x".join(map(str, cost.input_shape)),
    "parameters": lambda cost: f"{cost.params:,}",
    "MACs (M)": lambda cost: f"{cost.macs / 1e6:,.2f}",
    "activations (M)": lambda cost: f"{cost.activations / 1e6:,.2f}",
    "memory (MB)": lambda cost: f"{cost.memory / 1e6:,.1f}",
    "CIO (M)": lambda cost: f"{cost.cio / 1e6:,.2f}",
    "CIO by formula": lambda cost: f"{cost.formula_cio:,}" if cost.block_cio else "–",
    "stage widths": lambda cost: "/".join(map(str, stage_widths(cost))),
}
LAYER_COLUMNS = {
    "layer": lambda layer: layer.name,
    "operator": lambda layer: layer.op,
    "output": lambda layer: "x".join(map(str, layer.output_shape)),
    "parameters": lambda layer: f"{layer.params:,}",
    "MACs": lambda layer: f"{layer.macs:,}",
    "activations": lambda layer: f"{layer.activations:,}",
    "memory (bytes)": lambda layer: f"{layer.memory:,}",
    "CIO": lambda layer: f"{layer.cio:,}",
}
TOTALS = ("params", "macs", "activations", "memory", "cio", "formula_cio")

# First match wins; the colours are told apart by the colour-blind (Okabe and Ito).
FAMILIES = {
    "csp_densenet": "#d55e00",
    "csp_resne": "#cc79a7",
    "densenet": "#0072b2",
    "dpn": "#009e73",
    "": "#666666",
}
FAMILY_NAMES = {
    "csp_densenet": "CSP-DenseNet",
    "csp_resne": "CSPResNe(X)t",
    "densenet": "DenseNet",
    "dpn": "DPN",
    "": "other",
}
# Apart from each other, since a CSP-DenseNet lies just below its DenseNet.
LABEL_PLACES = {
    "csp_densenet": "bottom center",
    "csp_resne": "bottom right",
    "densenet": "top center",
    "dpn": "middle right",
    "": "middle left",
}
PARTS = {
    "stem": "#bdbdbd",
    "stage1": "#c6dbef",
    "stage2": "#6baed6",
    "stage3": "#2171b5",
    "stage4": "#08306b",
    "transitions": "#fdae6b",
    "output": "#525252",
    "other": "#d9d9d9",
}
LABELLED = 25  # more names than that in the scatter chart hide each other: hovering shows them

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1100px; margin: 2em auto;
  padding: 0 1em; }
h1 { font-size: 1.6em; } h2 { font-size: 1.15em; margin: 2em 0 0; }
p { color: #555; margin: .2em 0 .6em; } .scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; white-space: nowrap; }
th, td { padding: .25em .8em; border-bottom: 1px solid #ddd; } th { border-bottom: 2px solid #888; }
td { font-variant-numeric: tabular-nums; }
"""


def stage_widths(cost: Summary) -> list[int]:
    """Channels behind each stage of a network of gluondense.

    Examples
    --------
    >>> from gluondense import summary
    >>> stage_widths(summary("dpn92"))
    [336, 704, 1552, 2688]
    """
    last = {_part(layer.name): layer.output_shape[1] for layer in cost.layers}
    return [width for part, width in last.items() if part.startswith("stage")]


def records(costs: Iterable[Summary], per_layer: bool = False) -> list[dict[str, Any]]:
    """Plain dictionaries for CSV and JSON: one a network, or one a layer of each network.

    Parameters
    ----------
    costs
        What :func:`gluondense.summary` returned.
    per_layer
        Whether to give the layers instead of the totals.

    Examples
    --------
    >>> from gluondense import summary
    >>> records([summary("densenet_tutorial")])[0]["params"]
    758226
    """
    found: list[dict[str, Any]] = []
    for cost in costs:
        head = {"model": cost.model, "input_shape": "x".join(map(str, cost.input_shape))}
        if per_layer:
            found += [{**head, **dataclasses.asdict(layer)} for layer in cost.layers]
        else:
            found.append({**head, **{total: getattr(cost, total) for total in TOTALS}})
    return found


def table(costs: Sequence[Summary], style: str = "simple", per_layer: bool = False) -> str:
    """Text with one line a network, or one line a layer of each network.

    Parameters
    ----------
    costs
        What :func:`gluondense.summary` returned.
    style
        A table format of tabulate: ``"simple"`` for the terminal, ``"pipe"`` for Markdown …
    per_layer
        Whether to list the layers, one table a network.

    Examples
    --------
    >>> from gluondense import summary
    >>> print(table([summary("dpn68")]).splitlines()[2])
    dpn68      1x3x224x224    12,611,602    2,326.16              10.47          177.3 ...
    """
    if per_layer:
        return "\n\n".join(
            f"{cost}\n\n{_tabulate(LAYER_COLUMNS, cost.layers, 3, style)}" for cost in costs
        )
    columns = dict(COLUMNS)
    if not any(map(stage_widths, costs)):
        del columns["stage widths"]
    if not any(cost.block_cio for cost in costs):
        del columns["CIO by formula"]
    return _tabulate(columns, costs, 2, style)


def write_page(costs: Sequence[Summary], path: str | os.PathLike[str]) -> None:
    """Write one HTML file, charts and table, that needs no network to open.

    Parameters
    ----------
    costs
        What :func:`gluondense.summary` returned, in the order of the table.
    path
        The file to write.
    """
    inputs = ", ".join(dict.fromkeys(map(COLUMNS["input"], costs)))
    charts = [
        ("Parameters and multiply-adds", "The area of a bubble is its activations.", _bubbles),
        ("Activations, memory and CIO", "What limits speed and batch size.", _bars),
        ("Where the multiply-adds are", "Share of each part of the network.", _parts),
    ]
    sections = []
    for index, (title, note, chart) in enumerate(charts):
        figure = chart(costs).to_html(
            full_html=False,
            include_plotlyjs=index == 0,
            div_id=f"chart{index}",
            config={"displayModeBar": False, "responsive": True},
        )
        sections.append(f"<h2>{title}</h2><p>{note}</p>{figure}")
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>What the networks cost</title>
<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>
<h1>What the networks cost</h1>
<p>Counted for input {inputs}. Multiply-adds (MACs) and activations are those of convolutions and
fully-connected layers; memory is all outputs in float32; CIO is what the convolutions read and
write.</p>
{"".join(sections)}
<h2>All numbers</h2><div class="scroll">{table(costs, "html")}</div>
</body></html>
"""
    Path(path).write_text(page, encoding="utf-8")


def _tabulate(columns: dict[str, Any], items: Iterable[Any], texts: int, style: str) -> str:
    """Make a table whose first ``texts`` columns are text and the others numbers."""
    align = [
        "right" if texts <= i < len(columns) and name != "stage widths" else "left"
        for i, name in enumerate(columns)
    ]
    rows = [[show(item) for show in columns.values()] for item in items]
    return tabulate(rows, list(columns), tablefmt=style, colalign=align, disable_numparse=True)


def _family(cost: Summary) -> str:
    return next(family for family in FAMILIES if cost.model.startswith(family))


def _part(layer: str) -> str:
    """``stage1`` of ``features.stage1.layer3.conv1``."""
    return layer.split(".")[1 if layer.startswith("features.") else 0]


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
    # Networks of the same cost to two digits (68 and 68b …) are one bubble with all their names.
    places: dict[tuple[str, str, str], list[Summary]] = {}
    for cost in costs:
        place = _family(cost), f"{cost.params:.1e}", f"{cost.macs:.1e}"
        places.setdefault(place, []).append(cost)
    most = max(cost.activations for cost in costs)
    figure = go.Figure()
    for family, colour in FAMILIES.items():
        groups = [group for key, group in places.items() if key[0] == family]
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
            name=FAMILY_NAMES[family],
            mode="markers+text" if len(places) <= LABELLED else "markers",
            textposition=LABEL_PLACES[family],
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
    return figure.update_layout(margin_r=150)  # room for the names of the costliest


def _scale(values: Iterable[int]) -> str:
    """Logarithmic where a linear axis would crowd the small ones."""
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
            marker_color=[FAMILIES[_family(cost)] for cost in costs],
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
            part = _part(layer.name)
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
