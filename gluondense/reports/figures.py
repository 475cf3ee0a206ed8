# SPDX-License-Identifier: Apache-2.0
"""Plotly figures of the reports."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..analysis.predictions import Predictions
from .palette import FAINT, GRID, INK, LOSS, RATE, TEST, TRAIN

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
LEGEND = {"orientation": "h", "y": 1.02, "yanchor": "bottom"}  # above the plot
MAX_CLASSES = 100  # with more classes, only those with the most mistakes are shown
MAX_LABELS = 20  # with more classes, the cells of the confusion matrix have no room for numbers


def history_figure(
    finished: Sequence[float],
    losses: Mapping[str, Sequence[float]],
    scores: Mapping[str, Sequence[float]],
    rates: tuple[Sequence[float], Sequence[float]],
    epochs: int,
    score: str = "accuracy",
    form: str = ".2%",
) -> go.Figure:
    """Plot training and test losses and scores per epoch, and the learning rate below.

    Parameters
    ----------
    finished, epochs
        The finished epochs, and the end of the horizontal axis.
    losses, scores
        Training and test values at these epochs, by name; the test values last.
    rates
        Epochs, with fractions, and the learning rates at these points.
    score, form
        Name and format of the scores.
    """
    heights = {"row_heights": [0.76, 0.24], "vertical_spacing": 0.09}
    axes = [[{"secondary_y": True}], [{}]]
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, specs=axes, **heights)
    upper, lower = {"row": 1, "col": 1}, {"row": 2, "col": 1}
    loss_styles = (LOSS, "circle-open", "solid"), (LOSS, "square-open", "dot")
    score_styles = (TRAIN, "cross-open", "solid"), (TEST, "triangle-up-open", "solid")
    styles = [*loss_styles[-len(losses) :], *score_styles[-len(scores) :]]
    for (name, values), (color, symbol, dash) in zip({**losses, **scores}.items(), styles):
        figure.add_scatter(
            x=finished,
            y=values,
            name=name,
            mode="lines+markers",
            line={"color": color, "dash": dash, "width": 2},
            marker={"symbol": symbol, "size": 8},
            hovertemplate=f"%{{y:{form if name in scores else '.4f'}}}",
            secondary_y=name in scores,
            **upper,
        )
    figure.add_scatter(
        x=rates[0],
        y=rates[1],
        name="learning rate",
        mode="lines",
        line={"color": RATE, "width": 2},
        hovertemplate="%{y:.4g}",
        showlegend=False,
        **lower,
    )
    margin = {"l": 64, "r": 64, "t": 40, "b": 48}
    figure.update_layout(hovermode="x unified", legend={**LEGEND, "x": 0}, margin=margin)
    ticks = {"tickformat": ".3~p" if form.endswith("%") else ".3~g", "tickmode": "auto"}
    figure.update_yaxes(title="loss", rangemode="tozero", secondary_y=False, **upper)
    figure.update_yaxes(title=score, **ticks, showgrid=False, secondary_y=True, **upper)
    figure.update_yaxes(title="learning rate", rangemode="tozero", nticks=4, **lower)
    figure.update_xaxes(range=[0, epochs * 1.02], tick0=0, dtick=math.ceil(epochs / 15))
    figure.update_xaxes(title="epoch", **lower)
    return styled(figure, height=520)


def parts_figure(finished: Sequence[float], parts: Mapping[str, Sequence[float]]) -> go.Figure:
    """Plot the parts of a loss, by name, at the finished epochs."""
    figure = go.Figure()
    for (name, values), color in zip(parts.items(), (LOSS, TRAIN, RATE, TEST)):
        figure.add_scatter(
            x=finished,
            y=values,
            name=name,
            mode="lines+markers",
            line={"color": color, "width": 2},
            marker={"size": 5},
            hovertemplate="%{y:.4f}",
        )
    margin = {"l": 64, "r": 64, "t": 40, "b": 48}
    figure.update_layout(hovermode="x unified", legend={**LEGEND, "x": 0}, margin=margin)
    figure.update_xaxes(title="epoch", rangemode="tozero")
    figure.update_yaxes(title="loss", rangemode="tozero")
    return styled(figure, height=300)


def confusion_figure(predictions: Predictions, class_names: Sequence[str]) -> go.Figure:
    """Plot the confusion matrix: true classes in rows, predicted ones in columns."""
    shown = _shown(predictions, len(class_names))
    classes = len(shown)
    position = np.full(len(class_names), -1)
    position[shown] = np.arange(classes)
    readable = predictions.readable
    labels, predicted = predictions.labels[readable], predictions.predicted[readable]
    both = (position[labels] >= 0) & (position[predicted] >= 0)
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (position[labels[both]], position[predicted[both]]), 1)
    totals = np.bincount(labels, minlength=len(class_names))[shown]
    shares = counts / np.maximum(totals[:, None], 1)
    names = [html.escape(class_names[index]) for index in shown]
    room = classes <= MAX_LABELS
    texts = np.where(counts > 0, counts.astype(str), "")
    look = {"zmin": 0, "zmax": 1, "showscale": False, "xgap": 2, "ygap": 2}
    hover = "%{y} taken for %{x}: %{customdata[0]:d} (%{customdata[1]:.1%})<extra></extra>"
    heatmap = go.Heatmap(
        # The square root makes rare mistakes visible beside frequent correct predictions.
        z=np.sqrt(shares),
        x=names,
        y=names,
        customdata=np.dstack([counts, shares]),
        text=texts if room else None,
        texttemplate="%{text}" if room else None,
        textfont={"size": 12},
        colorscale=[[0, "#ffffff"], [0.15, "#e3ecfb"], [0.5, "#84a9ec"], [1, "#1d4ba8"]],
        hovertemplate=hover,
        **look,
    )
    figure = go.Figure(heatmap)
    figure.update_layout(margin={"l": 104, "r": 16, "t": 8, "b": 88})
    figure.update_yaxes(title="true", autorange="reversed", showgrid=False, type="category")
    angle = -35 if max(map(len, names)) > 3 else 0
    figure.update_xaxes(title="predicted", showgrid=False, tickangle=angle, type="category")
    return styled(figure, _height(classes))


def recall_figure(predictions: Predictions, class_names: Sequence[str]) -> go.Figure:
    """Plot the recall of each class."""
    shown = _shown(predictions, len(class_names))
    shares = np.nan_to_num(predictions.recalls(len(class_names)))[shown]
    texts = {"textposition": "auto", "textangle": 0, "insidetextanchor": "end"}
    bars = go.Bar(
        x=shares,
        y=[html.escape(class_names[index]) for index in shown],
        orientation="h",
        marker={"color": "#84a9ec"},
        text=[f"{share:.1%}" for share in shares],
        insidetextfont={"color": INK},
        hovertemplate="%{y}: %{x:.2%}<extra></extra>",
        **texts,
    )
    figure = go.Figure(bars)
    figure.update_layout(margin={"l": 96, "r": 16, "t": 8, "b": 88}, bargap=0.25)
    figure.update_yaxes(autorange="reversed", showgrid=False, type="category")
    figure.update_xaxes(title="recognised", range=[0, 1], tickformat=".0%")
    return styled(figure, _height(len(shown)))


def _shown(predictions: Predictions, classes: int) -> np.ndarray:
    """Return the indices of the classes to show, in ascending order."""
    if classes <= MAX_CLASSES:
        return np.arange(classes)
    wrong = np.bincount(predictions.labels[predictions.misclassified()], minlength=classes)
    return np.sort(np.argsort(-wrong, kind="stable")[:MAX_CLASSES])


def _height(classes: int) -> int:
    return max(420, min(44 * classes + 130, 900))


def styled(figure: go.Figure, height: int) -> go.Figure:
    """Apply the fonts, colors and grid of all figures."""
    font, clear = {"family": FONT, "size": 13}, "rgba(0,0,0,0)"
    figure.update_layout(template="plotly_white", height=height, font={**font, "color": INK})
    figure.update_layout(paper_bgcolor=clear, plot_bgcolor=clear, hoverlabel={"font": font})
    axis = {"gridcolor": GRID, "linecolor": GRID, "zeroline": False}
    figure.update_xaxes(**axis, title_font={"size": 13, "color": FAINT})
    figure.update_yaxes(**axis, title_font={"size": 13, "color": FAINT})
    return figure
