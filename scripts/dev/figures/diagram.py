# SPDX-License-Identifier: Apache-2.0
"""A diagram of named nodes on a grid and the arrows between them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from .svg import arrow, box, figure, group, text

TOP, ROW, HEIGHT, GAP = 52, 46, 28, 36


@dataclass(frozen=True)
class Node:
    """A box; ``kind`` is ``"map"`` for feature maps, ``"join"`` where paths meet, or empty."""

    content: str
    column: int
    row: float
    kind: str = ""

    @property
    def width(self) -> float:
        """The width of the box, by its text."""
        return 7.0 * len(self.content) + 18


@dataclass(frozen=True)
class Arrow:
    """An arrow between two nodes.

    ``route``: empty for a straight line down or across, ``"across"`` and ``"down"`` for what comes
    first in an elbow, ``"around"`` past the nodes between, along column 0, ``"tee"`` from the line
    below the source, ``"arc"`` above the nodes between.
    """

    source: str
    target: str
    route: str = ""
    color: str = ""


@dataclass(frozen=True)
class Diagram:
    """Nodes, arrows, and the horizontal center of each column."""

    title: str
    nodes: Mapping[str, Node]
    arrows: tuple[Arrow, ...]
    columns: tuple[int, ...]
    caption: str = ""


def draw_diagram(diagram: Diagram, dark: bool = False) -> str:
    """Return the diagram as SVG."""
    width, height = size(diagram)
    contents = ", ".join(node.content for node in diagram.nodes.values())
    label = f"{diagram.title}: {contents}. {diagram.caption}".strip()
    return figure(width, height, label, parts(diagram), dark)


def draw_row(diagrams: Collection[Diagram], label: str, dark: bool = False) -> str:
    """Return diagrams side by side, each in the middle of the height."""
    sizes = [size(each) for each in diagrams]
    tallest = max(height for _, height in sizes)
    x, found = 0, []
    for each, (width, height) in zip(diagrams, sizes):
        found.append(group(x, (tallest - height) // 2, parts(each)))
        x += width + GAP
    return figure(x - GAP, tallest, label, found, dark)


def size(diagram: Diagram) -> tuple[int, int]:
    """Return width and height."""
    right = max(diagram.columns[node.column] + node.width / 2 for node in diagram.nodes.values())
    rows = max(node.row for node in diagram.nodes.values())
    width = max(right, 7 * len(diagram.caption), 8 * len(diagram.title)) + 8
    return int(width), int(TOP + ROW * rows + HEIGHT / 2 + (30 if diagram.caption else 8))


def parts(diagram: Diagram) -> list[str]:
    """Return the elements of the diagram, without the SVG around them."""
    width, height = size(diagram)
    found = [text(width / 2, 18, diagram.title, "title")]
    found += [arrow(_path(diagram, each), each.color) for each in diagram.arrows]
    for node in diagram.nodes.values():
        x, y = _place(diagram, node)
        found.append(box(x, y, node.width, HEIGHT, node.content, node.kind))
    if diagram.caption:
        found.append(text(width / 2, height - 8, diagram.caption, "note"))
    return found


def _place(diagram: Diagram, node: Node) -> tuple[float, float]:
    return diagram.columns[node.column], TOP + ROW * node.row


def _path(diagram: Diagram, each: Arrow) -> str:
    source, target = diagram.nodes[each.source], diagram.nodes[each.target]
    (x1, y1), (x2, y2) = _place(diagram, source), _place(diagram, target)
    side = 1 if x2 > x1 else -1
    end = x2 - side * target.width / 2  # of a line that enters from the side
    below, above = y1 + HEIGHT / 2, y2 - HEIGHT / 2
    if each.route == "across":
        return f"M{x1 + side * source.width / 2:g} {y1:g}H{x2:g}V{above:g}"
    if each.route == "down":
        return f"M{x1:g} {below:g}V{y2:g}H{end:g}"
    if each.route == "tee":
        return f"M{x1:g} {y2:g}H{end:g}"
    if each.route == "around":
        left = diagram.columns[0]
        return f"M{x1 - source.width / 2:g} {y1:g}H{left:g}V{y2:g}H{x2 - target.width / 2:g}"
    if each.route == "arc":
        top = y1 - HEIGHT / 2
        control = top - 0.42 * (x2 - x1)
        return f"M{x1 + 5:g} {top:g}C{x1 + 5:g} {control:g} {x2:g} {control:g} {x2:g} {top:g}"
    if y1 == y2:
        return f"M{x1 + side * source.width / 2:g} {y1:g}H{end:g}"
    return f"M{x1:g} {below:g}V{above:g}"
