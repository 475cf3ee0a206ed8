# SPDX-License-Identifier: Apache-2.0
"""Pages and figures of the connections in dense stages: feature reuse and gradient flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from ..explain.flow import GradientFlow
from ..explain.reuse import FeatureReuse
from .figures import styled
from .page import document, plot, section, wide_table
from .palette import INK

# From light to dark; 0 is distinct from a cell without a connection, which stays white.
REUSE_COLORS = [[0, "#fff3d6"], [0.35, "#f9b572"], [0.7, "#d94f3d"], [1, "#7a1033"]]
FLOW_COLORS = [[0, "#e3ecfb"], [0.5, "#84a9ec"], [1, "#1d4ba8"]]
AXIS = 370  # width in pixels
MAX_TICKS = 13  # more labels on an axis would overlap

REUSE_NOTE = (
    "Color: mean absolute weight of the connection from a source (row) to a layer that reads it "
    "(column), {scale}; {norm}. White: no connection. The columns in frames are the transitions "
    "and the classifier. Point at a cell for its value."
)
CSP_NOTE = (
    " x0′ is the part of the stage's input that bypasses its dense layers, x0″ the part that they "
    "read; T is the transition after the dense layers, U the one after the fusion. With "
    "fusion=&quot;last&quot; the next stage reads x0′ and T, without a U."
)
SCALES = {
    "layer": "divided by the maximum of its column",
    "stage": "divided by the maximum of the stage",
    None: "not scaled",
}


def reuse_page(
    model: str, found: Sequence[FeatureReuse], scale: str | None = "layer", norm: bool = False
) -> str:
    """Return a page with the feature-reuse heatmap of each stage.

    Parameters
    ----------
    model
        Name of the network, for the title.
    found
        Result of :func:`gluondense.explain.feature_reuse`.
    scale
        As in :meth:`FeatureReuse.scaled`.
    norm
        Whether the weights are multiplied by the normalizations' gamma.
    """
    weights = "weights times the absolute gamma of the normalization before" if norm else "weights"
    weights += "" if norm else " alone, as in the paper"
    note = REUSE_NOTE.format(scale=SCALES[scale], norm=weights)
    note += CSP_NOTE if any("T" in stage.readers or "U" in stage.readers for stage in found) else ""
    size = max(len(stage.sources) for stage in found)
    plots = "".join(
        f"<div><h3>{escape(stage.stage)}</h3>{plot(reuse_figure(stage, scale, size))}</div>"
        for stage in found
    )
    body = section("Feature reuse", f'<div class="pair">{plots}</div>', note)
    subtitle = "Average absolute weights of the connections, as in Fig. 5 of the DenseNet paper"
    return document(f"Feature reuse in {model}", subtitle, body)


def reuse_figure(found: FeatureReuse, scale: str | None = "layer", size: int = 0) -> go.Figure:
    """Plot the feature reuse of a stage; the height is that of ``size`` rows."""
    values = found.scaled(scale)
    top = float(np.nanmax(values)) if scale is None else 1.0
    figure = _heatmap(values, found.readers, found.sources, REUSE_COLORS, top)
    hover = "%{y} → %{x}<br>mean |w| %{customdata:.4g}<br>scaled %{z:.3f}<extra></extra>"
    figure.update_traces(customdata=found.weights, hovertemplate=hover)
    for column, reader in enumerate(found.readers):
        if not reader.isdigit() and reader != "projection":
            figure.add_shape(
                type="rect",
                x0=column - 0.5,
                x1=column + 0.5,
                y0=-0.5,
                y1=len(found.sources) - 0.5,
                line={"color": INK, "width": 1.5},
            )
    figure.update_xaxes(title="target layer")
    figure.update_yaxes(title="source layer")
    return styled(figure, max(300, min(640, 110 + 22 * max(size, len(found.sources)))))


def flow_page(flows: Mapping[str, GradientFlow], note: str = "") -> str:
    """Return a page with figure and table of the gradient flow of networks, by their names."""
    plots = "".join(
        f"<div><h3>{escape(name)}, {escape(flow.stage)}</h3>{plot(flow_figure(flow))}</div>"
        for name, flow in flows.items()
    )
    text = (
        "Each column is the gradient of the loss with respect to a feature map, split by the layer "
        "(row) whose weights it comes through directly; color: share of the column's norms. 0 is "
        f"exactly 0: the flow is truncated there. {escape(note)}"
    )
    body = section("Gradient flow", f'<div class="pair">{plots}</div>', text)
    tables = "".join(f"<h3>{escape(n)}</h3>{_flow_table(flow)}" for n, flow in flows.items())
    text = "L2 norms. Row: layer; column: feature map. Last row: the whole gradient."
    body += section("Norms", tables, text)
    return document("Gradient flow", "Equations 2, 4 and 8 of the CSPNet paper, measured", body)


def flow_figure(flow: GradientFlow) -> go.Figure:
    """Plot the shares of the layers in the gradient of each feature map."""
    values = np.where(flow.norms == 0, np.nan, flow.shares)
    figure = _heatmap(values, flow.gradients, flow.readers, FLOW_COLORS, 1.0)
    hover = "%{x} through %{y}<br>norm %{customdata:.4g}<br>%{z:.1%} of the column<extra></extra>"
    figure.update_traces(
        customdata=flow.norms,
        hovertemplate=hover,
        text=[["0" if norm == 0 else f"{share:.0%}" for norm, share in zip(*rows)]
              for rows in zip(flow.norms, flow.shares)],
        texttemplate="%{text}",
        textfont={"size": 12},
    )  # fmt: skip
    for row, column in zip(*np.nonzero(flow.norms == 0)):  # plotly draws no text in empty cells
        zero = {"x": int(column), "y": int(row), "text": "0", "showarrow": False}
        figure.add_annotation(**zero, font={"size": 12, "color": "#98a2b3"})
    figure.update_xaxes(title="gradient of the feature map", side="top")
    figure.update_yaxes(title="through the weights of")
    figure.update_layout(margin={"t": 64, "b": 8}).update_traces(showscale=False)
    return styled(figure, 100 + 34 * len(flow.readers))


def _heatmap(
    values: np.ndarray,
    columns: Sequence[str],
    rows: Sequence[str],
    colors: list[list[object]],
    top: float,
) -> go.Figure:
    bar = {"thickness": 10, "outlinewidth": 0, "len": 0.9}
    heatmap = go.Heatmap(
        z=values, zmin=0, zmax=top, colorscale=colors, xgap=1, ygap=1, colorbar=bar
    )
    figure = go.Figure(heatmap)
    x, y = _ticks(columns, side_by_side=True), _ticks(rows)
    figure.update_xaxes(**x, range=[-0.5, len(columns) - 0.5], tickangle=0)
    figure.update_yaxes(**y, range=[len(rows) - 0.5, -0.5])
    figure.update_layout(margin={"l": 70, "r": 16, "t": 8, "b": 64})
    return figure


def _ticks(labels: Sequence[str], side_by_side: bool = False) -> dict[str, Any]:
    shown = _shown_ticks(labels, side_by_side)
    return {"tickvals": shown, "ticktext": [labels[i] for i in shown], "showgrid": False}


def _shown_ticks(labels: Sequence[str], side_by_side: bool = False) -> list[int]:
    """Return the labels to show: all words, and as many of the numbers as fit between them.

    Examples
    --------
    >>> _shown_ticks(["input", *map(str, range(1, 25)), "transition"])
    [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 25]
    """
    step = 1 + (len(labels) - 1) // MAX_TICKS
    gaps = {
        index: max(step, -(-(4 * len(label) + 10) * len(labels) // AXIS) if side_by_side else 0)
        for index, label in enumerate(labels)
        if not label.strip("xgw").isdigit()
    }
    numbers = (index for index in range(0, len(labels), step) if index not in gaps)
    free = (i for i in numbers if all(abs(i - word) >= gap for word, gap in gaps.items()))
    return sorted([*gaps, *free])


def _flow_table(flow: GradientFlow) -> str:
    rows = [*zip(flow.readers, flow.norms), ("whole", flow.totals)]
    cells = [
        (name, *("0" if norm == 0 else f"{norm:.4f}" for norm in norms)) for name, norms in rows
    ]
    return wide_table(("", *flow.sources), cells)
