# SPDX-License-Identifier: Apache-2.0
"""Plotly figures about predictions of several labels per image."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.colors import qualitative
from plotly.subplots import make_subplots

from ..analysis.bootstrap import Intervals
from ..analysis.label_metrics import LabelMetrics
from .figures import LEGEND, styled
from .palette import FAINT, LOSS, RATE, TEST

MAX_LABELS = 20  # with more labels, only the most frequent ones that have metrics are shown
_POINTS = 300  # of a curve
_BINS = 25
_COLUMNS = 4


def shown_labels(metrics: LabelMetrics) -> np.ndarray:
    """Return the indices of the labels to show, in ascending order."""
    known = np.flatnonzero(~np.isnan(metrics.auroc))
    frequent = known[np.argsort(-metrics.positives[known], kind="stable")]
    return np.sort(frequent[:MAX_LABELS])


def auroc_figure(
    metrics: LabelMetrics, intervals: Intervals, names: Sequence[str], shown: np.ndarray
) -> go.Figure:
    """Plot AUROC and average precision of each label with their intervals."""
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.04)
    rows = [html.escape(names[label]) for label in shown]
    columns = (
        ("AUROC", RATE, metrics.auroc, intervals.auroc),
        ("average precision", LOSS, metrics.average_precision, intervals.average_precision),
    )
    for column, (title, color, values, bounds) in enumerate(columns, 1):
        bounds = np.where(np.isnan(bounds), values[:, None], bounds)  # no interval: a point
        low, high = values[shown] - bounds[shown, 0], bounds[shown, 1] - values[shown]
        errors = {"type": "data", "symmetric": False, "array": high, "arrayminus": low}
        figure.add_scatter(
            x=values[shown],
            y=rows,
            mode="markers",
            marker={"color": color, "size": 9},
            error_x={**errors, "color": color, "thickness": 1.5, "width": 4},
            customdata=[f"{low:.3f} to {high:.3f}" for low, high in bounds[shown]],
            hovertemplate="%{y}: %{x:.3f} (%{customdata})<extra></extra>",
            row=1,
            col=column,
        )
        figure.update_xaxes(title=title, range=[0, 1.02], row=1, col=column)
    figure.add_vline(x=0.5, line={"color": FAINT, "dash": "dot", "width": 1}, row=1, col=1)
    # A label's share of positives is the average precision of random scores.
    shares = metrics.positives / np.maximum(metrics.positives + metrics.negatives, 1)
    figure.add_scatter(
        x=shares[shown],
        y=rows,
        mode="markers",
        marker={"color": FAINT, "symbol": "line-ns-open", "size": 11},
        hovertemplate="%{y}: random scores have %{x:.3f}<extra></extra>",
        row=1,
        col=2,
    )
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_layout(showlegend=False, margin={"l": 150, "r": 16, "t": 8, "b": 48})
    return styled(figure, height=max(220, 30 * len(shown) + 90))


def curves_figure(
    labels: np.ndarray, scores: np.ndarray, names: Sequence[str], shown: np.ndarray
) -> go.Figure:
    """Plot ROC and precision-recall curves of the labels."""
    from sklearn.metrics import precision_recall_curve, roc_curve

    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.1)
    line = {"color": FAINT, "dash": "dot", "width": 1}
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line=line, showlegend=False, hoverinfo="skip"
    )
    for number, label in enumerate(shown):
        known = ~np.isnan(labels[:, label])
        true, score = labels[known, label] > 0, scores[known, label]
        false_rate, true_rate, _ = roc_curve(true, score)
        precision, recall, _ = precision_recall_curve(true, score)
        name = html.escape(names[label])
        color = qualitative.Dark24[number % len(qualitative.Dark24)]
        curves = (
            (false_rate, true_rate, "linear"),
            (recall[::-1], precision[::-1], "vh"),  # the steps that average precision sums
        )
        for column, (x, y, shape) in enumerate(curves):
            figure.add_scatter(
                x=_thinned(x),
                y=_thinned(y),
                name=name,
                legendgroup=name,
                showlegend=column == 0,
                mode="lines",
                line={"color": color, "width": 1.8, "shape": shape},
                hovertemplate=f"{name}: %{{x:.3f}}, %{{y:.3f}}<extra></extra>",
                row=1,
                col=column + 1,
            )
    for column, (x, y) in enumerate(
        (("false positive rate", "true positive rate"), ("recall", "precision")), 1
    ):
        figure.update_xaxes(title=x, range=[-0.01, 1.01], row=1, col=column)
        figure.update_yaxes(title=y, range=[-0.01, 1.01], row=1, col=column)
    figure.update_layout(legend={**LEGEND, "x": 0}, margin={"l": 56, "r": 16, "t": 40, "b": 48})
    return styled(figure, height=460 + 20 * (len(shown) // 6))


def scores_figure(
    labels: np.ndarray,
    scores: np.ndarray,
    thresholds: np.ndarray,
    names: Sequence[str],
    shown: np.ndarray,
) -> go.Figure:
    """Plot histograms of each label's probabilities, with and without the label."""
    rows = math.ceil(len(shown) / _COLUMNS)
    titles = [html.escape(names[label]) for label in shown]
    gap = min(0.3 / max(rows, 1), 0.12)
    spacing = {"horizontal_spacing": 0.04, "vertical_spacing": gap}
    figure = make_subplots(rows=rows, cols=_COLUMNS, subplot_titles=titles, **spacing)
    edges = np.linspace(0, 1, _BINS + 1)
    for number, label in enumerate(shown):
        cell = {"row": number // _COLUMNS + 1, "col": number % _COLUMNS + 1}
        for value, name, color in ((0, "absent", FAINT), (1, "present", TEST)):
            counts = np.histogram(scores[labels[:, label] == value, label], edges)[0]
            figure.add_bar(
                x=(edges[:-1] + edges[1:]) / 2,
                y=counts / max(counts.sum(), 1),
                name=name,
                legendgroup=name,
                showlegend=number == 0,
                marker={"color": color, "opacity": 0.6, "line": {"width": 0}},
                hovertemplate="%{x:.2f}: %{y:.1%}",
                **cell,
            )
        line = {"color": RATE, "width": 1.5, "dash": "dash"}
        figure.add_vline(x=float(thresholds[label]), line=line, **cell)
    figure.update_layout(
        barmode="overlay",
        bargap=0,
        legend={**LEGEND, "x": 0, "y": 1 + 0.3 / max(rows, 1)},
        margin={"l": 24, "r": 16, "t": 72, "b": 32},
    )
    figure.update_yaxes(showticklabels=False, showgrid=False)
    figure.update_xaxes(range=[0, 1], dtick=0.5)
    figure.update_annotations(font={"size": 12})
    return styled(figure, height=140 * rows + 100)


def _thinned(values: np.ndarray) -> np.ndarray:
    """Return at most ``_POINTS`` of a curve's points, the ends among them."""
    if len(values) <= _POINTS:
        return values
    return values[np.linspace(0, len(values) - 1, _POINTS).astype(int)]
