# SPDX-License-Identifier: Apache-2.0
"""Plotly figures about the boxes that a detector finds."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.colors import qualitative

from ..analysis.detection.average_precision import precision_recall
from ..analysis.detection.matching import INVENTED, RIGHT, Matches
from ..analysis.detection.outcomes import SIZES
from .figures import LEGEND, styled
from .palette import FAINT, INK, LOSS, RATE, TEST

MAX_CLASSES = 20  # with more classes, only those with the most true boxes are shown
_POINTS = 300  # of a curve
_BINS = 40


def shown_classes(positives: np.ndarray) -> np.ndarray:
    """Return the indices of the classes to show, by their numbers of true boxes, ascending.

    Examples
    --------
    >>> shown_classes(np.array([3, 0, 8])).tolist()
    [0, 2]
    """
    frequent = np.argsort(-positives, kind="stable")[:MAX_CLASSES]
    return np.sort(frequent[positives[frequent] > 0])


def curves_figure(
    matches: Matches, names: Sequence[str], aps: np.ndarray, shown: np.ndarray, threshold: float
) -> go.Figure:
    """Plot the precision-recall curves of the shown classes, with a point at the threshold."""
    figure = go.Figure()
    for number, label in enumerate(shown):
        curve, name = precision_recall(matches, int(label)), html.escape(names[label])
        color = qualitative.Dark24[number % len(qualitative.Dark24)]
        at = _sampled(len(curve.recall))
        start = at[:1]  # the curve starts at a recall of 0, if there are detections
        figure.add_scatter(
            x=np.append(0 * curve.recall[start], curve.recall[at]),
            y=np.append(curve.precision[start], curve.precision[at]),
            customdata=np.append(curve.scores[start], curve.scores[at]),
            name=f"{name} {aps[label]:.3f}",
            legendgroup=name,
            mode="lines",
            line={"color": color, "width": 1.8},
            hovertemplate=f"{name}: recall %{{x:.3f}}, precision %{{y:.3f}}, "
            "score %{customdata:.3f}<extra></extra>",
        )
        count = np.count_nonzero(curve.scores >= threshold)
        if count:
            figure.add_scatter(
                x=[curve.recall[count - 1]],
                y=[curve.precision[count - 1]],
                legendgroup=name,
                showlegend=False,
                mode="markers",
                marker={"color": color, "size": 9, "line": {"color": "#ffffff", "width": 1.5}},
                hovertemplate=f"{name} at the threshold: recall %{{x:.3f}}, precision %{{y:.3f}}"
                "<extra></extra>",
            )
    figure.update_xaxes(title="recall", range=[-0.01, 1.01])
    figure.update_yaxes(title="precision", range=[-0.01, 1.02])
    figure.update_layout(legend={**LEGEND, "x": 0}, margin={"l": 56, "r": 16, "t": 40, "b": 48})
    return styled(figure, height=420 + 20 * (len(shown) // 6))


def sizes_figure(truths: np.ndarray, found: np.ndarray) -> go.Figure:
    """Plot the recall of small, medium and large true boxes, given their numbers, (3,)."""
    with np.errstate(invalid="ignore"):
        recall = found / truths
    texts = [f"{hits:,} of {count:,}" for hits, count in zip(found, truths)]
    bars = go.Bar(
        x=SIZES,
        y=np.nan_to_num(recall),
        marker={"color": "#84a9ec"},
        text=texts,
        textposition="auto",
        textangle=0,
        insidetextfont={"color": INK},
        hovertemplate="%{x}: %{y:.1%}<extra></extra>",
    )
    figure = go.Figure(bars)
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(title="recall", range=[0, 1], tickformat=".0%")
    figure.update_layout(margin={"l": 56, "r": 16, "t": 16, "b": 48}, bargap=0.35)
    return styled(figure, height=340)


def scores_figure(matches: Matches, threshold: float) -> go.Figure:
    """Plot histograms of the scores of right and of invented detections."""
    figure, edges = go.Figure(), np.linspace(0, 1, _BINS + 1)
    for outcome, name, color in ((INVENTED, "invented", TEST), (RIGHT, "right", LOSS)):
        counts = np.histogram(matches.scores[matches.outcomes == outcome], edges)[0]
        figure.add_bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=np.where(counts, counts, np.nan),  # zero has no logarithm
            name=name,
            marker={"color": color, "opacity": 0.65, "line": {"width": 0}},
            hovertemplate=f"%{{x:.3f}}: %{{y:,}} {name}<extra></extra>",
        )
    figure.add_vline(x=threshold, line={"color": RATE, "width": 1.5, "dash": "dash"})
    figure.update_xaxes(title="score", range=[0, 1])
    figure.update_yaxes(title="detections", type="log", dtick=1)
    figure.update_layout(
        barmode="overlay",
        bargap=0,
        legend={**LEGEND, "x": 0, "font": {"color": FAINT}},
        margin={"l": 56, "r": 16, "t": 40, "b": 48},
    )
    return styled(figure, height=340)


def _sampled(count: int) -> np.ndarray:
    """Return the indices of at most ``_POINTS`` of a curve's points, the ends among them."""
    return np.linspace(0, count - 1, min(count, _POINTS)).astype(int)
