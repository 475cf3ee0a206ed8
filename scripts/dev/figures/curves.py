# SPDX-License-Identifier: Apache-2.0
"""The test accuracy of the Fashion-MNIST recipes against the epoch, from their logs."""

from __future__ import annotations

import csv
from pathlib import Path

from .svg import figure, text

LOGS = Path(__file__).parents[3] / "docs" / "results" / "fashion-mnist"
COLORS = {"best": "teal", "default": "orange", "listing": "blue"}
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 430, 270, 34, 124, 40, 36
LOWEST, HIGHEST, STEP = 76, 96, 4  # of the accuracy, in percent


def draw_curves() -> str:
    """Return the chart as SVG."""
    runs = {name: _accuracies(LOGS / f"{name}.csv") for name in COLORS}
    epochs = max(len(run) for run in runs.values())

    def x(epoch: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (epoch - 1) / (epochs - 1)

    def y(percent: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (percent - LOWEST) / (HIGHEST - LOWEST)

    parts = [text(0, 17, "Test accuracy on Fashion-MNIST, %", "title start")]
    for percent in range(LOWEST, HIGHEST + 1, STEP):
        parts.append(f'<path class="grid" d="M{LEFT} {y(percent):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(text(LEFT - 8, round(y(percent) + 4.5, 1), str(percent), "note end"))
    for epoch in (1, *range(10, epochs + 1, 10)):
        parts.append(text(round(x(epoch), 1), HEIGHT - BOTTOM + 17, str(epoch), "note"))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, "epoch", "note"))
    legend = WIDTH - RIGHT + 12
    for index, (name, run) in enumerate(runs.items()):
        points = " ".join(f"{x(epoch):.1f} {y(value):.1f}" for epoch, value in enumerate(run, 1))
        parts.append(f'<path class="{COLORS[name]}" d="M{points}"/>')
        middle = TOP + 8 + 22 * index
        parts.append(f'<path class="{COLORS[name]}" d="M{legend} {middle}h16"/>')
        parts.append(text(legend + 22, middle + 4.5, f"{name} {run[-1]:.2f}", "start"))
    label = "Test accuracy on Fashion-MNIST after the last epoch: " + ", ".join(
        f"{name} {run[-1]:.2f} %" for name, run in runs.items()
    )
    return figure(WIDTH, HEIGHT, label, parts)


def _accuracies(log: Path) -> list[float]:
    with log.open(encoding="utf-8", newline="") as file:
        return [100 * float(row["test_acc"]) for row in csv.DictReader(file)]
