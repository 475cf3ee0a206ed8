# SPDX-License-Identifier: Apache-2.0
"""A bar chart as SVG, narrow enough for a phone."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from .svg import figure, text

WIDTH, LEFT, RIGHT = 430, 112, 66  # of the labels before, and the values after the bars
HEAD, ROW, GAP, BAR, LINE = 26, 21, 12, 14, 68


@dataclass(frozen=True)
class Bar:
    """A row of a chart; ``own`` marks what this project provides, ``shown`` is the value's text."""

    label: str
    value: float
    shown: str
    own: bool = False


@dataclass(frozen=True)
class Group:
    """The bars of one network, batch or task."""

    title: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Chart:
    """A bar chart; ``note`` says what is measured."""

    title: str
    note: tuple[str, ...]
    groups: tuple[Group, ...]


def draw_bars(chart: Chart, dark: bool = False) -> str:
    """Return the chart as SVG."""
    longest = max(bar.value for group in chart.groups for bar in group.bars)
    scale = (WIDTH - LEFT - RIGHT) / longest
    parts = [text(0, 17, chart.title, "title start")]
    y = 22
    for line in textwrap.wrap(" ".join(chart.note), LINE):
        y += 17
        parts.append(text(0, y, line, "note start"))
    for group in chart.groups:
        y += HEAD
        parts.append(text(0, y, group.title, "name start"))
        y += 8
        for bar in group.bars:
            parts += _row(bar, y, bar.value * scale)
            y += ROW
        y += GAP - 8
    label = f"{chart.title}. {' '.join(chart.note)} " + "; ".join(
        f"{group.title}: " + ", ".join(f"{bar.label} {bar.shown}" for bar in group.bars)
        for group in chart.groups
    )
    return figure(WIDTH, y + 6, label, parts, dark)


def _row(bar: Bar, y: float, length: float) -> list[str]:
    kind = "own" if bar.own else "peer"
    middle = y + BAR / 2 + 4.5
    return [
        text(LEFT - 8, middle, bar.label, "end"),
        f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>',
        text(LEFT + length + 6, middle, bar.shown, "start"),
    ]
