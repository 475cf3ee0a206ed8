"""The report's plotly figures."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..analysis.predictions import Predictions

INK, FAINT, GRID = "#1d2433", "#667085", "#e7eaf0"
LOSS, TRAIN, TEST, RATE = "#12a594", "#f08c00", "#e0317b", "#5b6ee1"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
MAX_POINTS = 400  # of the learning rate's curve
MAX_CLASSES = 100  # of more, only so many are shown: those with the most mistakes
MAX_LABELS = 20  # more classes than that leave no room for numbers in the confusion matrix


def history_figure(
    rows: Sequence[dict[str, float]], epochs: int, schedule: Callable[[int], float]
) -> go.Figure:
    """Plot losses and accuracies by epoch, and below them the learning rate by step."""
    figure = make_subplots(
        rows=2,
        cols=1,
        shared_xaxes=True,
        row_heights=[0.76, 0.24],
        vertical_spacing=0.09,
        specs=[[{"secondary_y": True}], [{}]],
    )
    numbers = [row["epoch"] for row in rows]
    curves = (
        ("train loss", "train_loss", LOSS, "circle-open", "solid", ".4f", False),
        ("test loss", "test_loss", LOSS, "square-open", "dot", ".4f", False),
        ("train accuracy", "train_acc", TRAIN, "cross-open", "solid", ".2%", True),
        ("test accuracy", "test_acc", TEST, "triangle-up-open", "solid", ".2%", True),
    )
    for name, key, color, symbol, dash, form, right in curves:
        figure.add_scatter(
            x=numbers,
            y=[row[key] for row in rows],
            name=name,
            mode="lines+markers",
            line={"color": color, "dash": dash, "width": 2},
            marker={"symbol": symbol, "size": 8},
            hovertemplate=f"%{{y:{form}}}",
            row=1,
            col=1,
            secondary_y=right,
        )
    steps, rates = _rates(rows, schedule)
    figure.add_scatter(
        x=steps,
        y=rates,
        name="learning rate",
        mode="lines",
        line={"color": RATE, "width": 2},
        hovertemplate="%{y:.4g}",
        showlegend=False,
        row=2,
        col=1,
    )
    figure.update_layout(
        hovermode="x unified",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        margin={"l": 64, "r": 64, "t": 40, "b": 48},
    )
    figure.update_yaxes(title="loss", rangemode="tozero", row=1, col=1, secondary_y=False)
    figure.update_yaxes(
        title="accuracy",
        tickformat=".3~p",
        tickmode="auto",
        showgrid=False,
        row=1,
        col=1,
        secondary_y=True,
    )
    figure.update_yaxes(title="learning rate", rangemode="tozero", nticks=4, row=2, col=1)
    figure.update_xaxes(range=[0, epochs * 1.02], tick0=0, dtick=math.ceil(epochs / 15))
    figure.update_xaxes(title="epoch", row=2, col=1)
    return styled(figure, height=520)


def confusion_figure(answers: Predictions, class_names: Sequence[str]) -> go.Figure:
    """Plot how many images of each true class (rows) were taken for which class (columns)."""
    shown = _shown(answers, len(class_names))
    classes = len(shown)
    place = np.full(len(class_names), -1)
    place[shown] = np.arange(classes)
    labels, predicted = answers.labels[answers.readable], answers.predicted[answers.readable]
    both = (place[labels] >= 0) & (place[predicted] >= 0)
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (place[labels[both]], place[predicted[both]]), 1)
    totals = np.bincount(labels, minlength=len(class_names))[shown]
    shares = counts / np.maximum(totals[:, None], 1)
    names = [html.escape(class_names[index]) for index in shown]
    room = classes <= MAX_LABELS
    figure = go.Figure(
        go.Heatmap(
            # The square root shows the rare mistakes beside the common hits.
            z=np.sqrt(shares),
            x=names,
            y=names,
            customdata=np.dstack([counts, shares]),
            text=np.where(counts > 0, counts.astype(str), "") if room else None,
            texttemplate="%{text}" if room else None,
            textfont={"size": 12},
            colorscale=[[0, "#ffffff"], [0.15, "#e3ecfb"], [0.5, "#84a9ec"], [1, "#1d4ba8"]],
            zmin=0,
            zmax=1,
            showscale=False,
            xgap=2,
            ygap=2,
            hovertemplate="%{y} taken for %{x}: %{customdata[0]:d} (%{customdata[1]:.1%})"
            "<extra></extra>",
        )
    )
    figure.update_layout(margin={"l": 104, "r": 16, "t": 8, "b": 88})
    figure.update_yaxes(title="true", autorange="reversed", showgrid=False, type="category")
    angle = -35 if max(map(len, names)) > 3 else 0
    figure.update_xaxes(title="predicted", showgrid=False, tickangle=angle, type="category")
    return styled(figure, _height(classes))


def recall_figure(answers: Predictions, class_names: Sequence[str]) -> go.Figure:
    """Plot for each class the share of its images that were recognised."""
    shown = _shown(answers, len(class_names))
    shares = np.nan_to_num(answers.recalls(len(class_names)))[shown]
    figure = go.Figure(
        go.Bar(
            x=shares,
            y=[html.escape(class_names[index]) for index in shown],
            orientation="h",
            marker={"color": "#84a9ec"},
            text=[f"{share:.1%}" for share in shares],
            textposition="auto",
            textangle=0,
            insidetextanchor="end",
            insidetextfont={"color": INK},
            hovertemplate="%{y}: %{x:.2%}<extra></extra>",
        )
    )
    figure.update_layout(margin={"l": 96, "r": 16, "t": 8, "b": 88}, bargap=0.25)
    figure.update_yaxes(autorange="reversed", showgrid=False, type="category")
    figure.update_xaxes(title="recognised", range=[0, 1], tickformat=".0%")
    return styled(figure, _height(len(shown)))


def _shown(answers: Predictions, classes: int) -> np.ndarray:
    """Choose the classes to show, in their order."""
    if classes <= MAX_CLASSES:
        return np.arange(classes)
    wrong = np.bincount(answers.labels[answers.misclassified()], minlength=classes)
    return np.sort(np.argsort(-wrong, kind="stable")[:MAX_CLASSES])


def _rates(
    rows: Sequence[dict[str, float]], schedule: Callable[[int], float]
) -> tuple[list[float], list[float]]:
    """Sample the learning rate over the epochs that are done."""
    per_epoch = int(rows[-1]["step"] // rows[-1]["epoch"])
    done = int(rows[-1]["step"])
    steps = sorted({int(step) for step in np.linspace(0, done - 1, min(done, MAX_POINTS))})
    return [step / per_epoch for step in steps], [schedule(step) for step in steps]


def _height(classes: int) -> int:
    return max(420, min(44 * classes + 130, 900))


def styled(figure: go.Figure, height: int) -> go.Figure:
    """Give a figure the look of all of ours."""
    figure.update_layout(
        template="plotly_white",
        height=height,
        font={"family": FONT, "size": 13, "color": INK},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hoverlabel={"font": {"family": FONT, "size": 13}},
    )
    axis = {"gridcolor": GRID, "linecolor": GRID, "zeroline": False}
    figure.update_xaxes(**axis, title_font={"size": 13, "color": FAINT})
    figure.update_yaxes(**axis, title_font={"size": 13, "color": FAINT})
    return figure
