# SPDX-License-Identifier: Apache-2.0
"""Accuracy against multiply-adds, of the networks of an experiment over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from ..cards.experiment import Network, read
from .svg import figure, text

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 470, 280, 40, 20, 44, 42
NEAR = 40  # whose labels would overlap


def accuracy_and_cost(name: str) -> str:
    """Return the SVG: a point is the mean of the seeds, its line ends at the lowest and highest."""
    networks = read(name)
    costs = [network.macs / 1e6 for network in networks]
    values = [value for network in networks for value in network.values]
    lowest, highest = int(min(values)) - 1, int(max(values)) + 2
    left, right = min(costs) - 2, max(costs) + 2

    def x(cost: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (cost - left) / (right - left)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - lowest) / (highest - lowest)

    parts = [text(0, 17, "Test accuracy, %, and multiply-adds", "title start")]
    for value in range(lowest, highest + 1):
        parts.append(f'<path class="grid" d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(text(LEFT - 8, round(y(value) + 4.5, 1), str(value), "note end"))
    for cost in range(int(left) // 4 * 4 + 4, int(right) + 1, 4):
        parts.append(text(round(x(cost), 1), HEIGHT - BOTTOM + 18, str(cost), "note"))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "M multiply-adds", "note"))
    for network, cost in zip(networks, costs):
        near = [other for other in networks if abs(x(other.macs / 1e6) - x(cost)) < NEAR]
        is_highest = network is max(near, key=lambda other: statistics.mean(other.values))
        parts += _point(network, round(x(cost), 1), y, label_above=is_highest)
    label = "; ".join(
        f"{network.title}: {statistics.mean(network.values):.2f} % with "
        f"{network.macs / 1e6:.1f} M multiply-adds"
        for network in networks
    )
    return figure(WIDTH, HEIGHT, f"Mean test accuracy. {label}", parts)


def _point(network: Network, x: float, y: Callable[[float], float], label_above: bool) -> list[str]:
    kind = "peer" if network.name == "dense" else "own"
    color = "" if network.name == "dense" else ' class="teal"'
    mean = y(statistics.mean(network.values))
    ends = y(max(network.values)), y(min(network.values))
    return [
        f'<path{color} d="M{x:g} {ends[0]:.1f}V{ends[1]:.1f}"/>',
        f'<circle class="{kind}" cx="{x:g}" cy="{mean:.1f}" r="4"/>',
        text(x, round(ends[0] - 7 if label_above else ends[1] + 16, 1), network.title, "note"),
    ]
