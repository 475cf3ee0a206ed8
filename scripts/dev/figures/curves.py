# SPDX-License-Identifier: Apache-2.0
"""The results of training runs against the epoch, from their logs."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from .svg import figure, text

RESULTS = Path(__file__).parents[3] / "docs" / "results"
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 430, 270, 34, 124, 40, 36


@dataclass(frozen=True)
class Curves:
    """A chart of one metric of some runs.

    Parameters
    ----------
    title
        What is shown, in percent.
    folder
        Folder of the logs in ``docs/results``.
    metric
        A column of the logs, a share.
    colors
        For each log its color.
    ticks
        Labels of the vertical axis.
    """

    title: str
    folder: str
    metric: str
    colors: dict[str, str]
    ticks: range


CURVES = {
    "fashion-mnist": Curves(
        "Test accuracy on Fashion-MNIST",
        "fashion-mnist",
        "test_acc",
        {"best": "teal", "default": "orange", "listing": "blue"},
        range(76, 97, 4),
    ),
    "bccd": Curves(
        "mAP@0.5 on BCCD's validation images",
        "bccd",
        "test_map",
        {"scratch": "teal"},
        range(0, 101, 20),
    ),
}


def draw_curves(chart: Curves) -> str:
    """Return the chart as SVG."""
    runs = {name: _shares(chart, name) for name in chart.colors}
    lowest, highest = chart.ticks[0], chart.ticks[-1]
    epochs = max(len(run) for run in runs.values())
    step = 10 if epochs < 60 else 20

    def x(epoch: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (epoch - 1) / (epochs - 1)

    def y(percent: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (percent - lowest) / (highest - lowest)

    parts = [text(0, 17, f"{chart.title}, %", "title start")]
    for percent in chart.ticks:
        parts.append(f'<path class="grid" d="M{LEFT} {y(percent):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(text(LEFT - 8, round(y(percent) + 4.5, 1), str(percent), "note end"))
    for epoch in (1, *range(step, epochs + 1, step)):
        parts.append(text(round(x(epoch), 1), HEIGHT - BOTTOM + 17, str(epoch), "note"))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, "epoch", "note"))
    legend = WIDTH - RIGHT + 12
    for index, (name, run) in enumerate(runs.items()):
        points = " ".join(f"{x(epoch):.1f} {y(value):.1f}" for epoch, value in enumerate(run, 1))
        parts.append(f'<path class="{chart.colors[name]}" d="M{points}"/>')
        middle = TOP + 8 + 22 * index
        parts.append(f'<path class="{chart.colors[name]}" d="M{legend} {middle}h16"/>')
        parts.append(text(legend + 22, middle + 4.5, f"{name} {run[-1]:.2f}", "start"))
    label = f"{chart.title} after the last epoch: " + ", ".join(
        f"{name} {run[-1]:.2f} %" for name, run in runs.items()
    )
    return figure(WIDTH, HEIGHT, label, parts)


def _shares(chart: Curves, name: str) -> list[float]:
    log = RESULTS / chart.folder / f"{name}.csv"
    with log.open(encoding="utf-8", newline="") as file:
        return [100 * float(row[chart.metric]) for row in csv.DictReader(file)]
