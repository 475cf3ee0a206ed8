"""Where each tensor of a graph lies: channels of a map, so that concatenations need no copies."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Sequence

from ...graph.ir import Node


@dataclasses.dataclass
class Map:
    """Memory for channels side by side, with a border of zeros around the picture."""

    channels: int
    border: int = 0
    bytes: bool = False
    edge: int | None = None  # where the zeros of each channel are among the bytes, if not all 0

    def __str__(self) -> str:
        words = [f"map channels={self.channels} border={self.border}"]
        words += ["bytes=1"] if self.bytes else []
        words += [f"edge={self.edge}"] if self.edge is not None else []
        return " ".join(words)


@dataclasses.dataclass(frozen=True)
class View:
    """Some channels of a map."""

    map: int
    channel: int
    channels: int

    def __str__(self) -> str:
        return f"{self.map},{self.channel},{self.channels}"


class Layout:
    """Maps for all tensors of a graph.

    Parameters
    ----------
    operators
        Of a graph, each after its inputs.
    channels
        Of each node's output, by the node's id.
    absorbed
        Nodes that another one computes in passing, and which: they need no map.
    """

    def __init__(
        self, operators: Sequence[Node], channels: dict[int, int], absorbed: dict[int, Node]
    ) -> None:
        self.maps: list[Map] = []
        self.copies: dict[int, list[int]] = {}
        self._views: dict[int, View] = {}
        self._channels, self._absorbed = channels, absorbed
        for node in reversed(operators):
            if node.op == "Concat":
                self._continue_first(node)
                self._lay_side_by_side(node)
        for node in operators:
            self.view(node)

    def view(self, node: Node) -> View:
        """Return where a node's output lies."""
        node = self.owner(node)
        if id(node) not in self._views:
            if node.op == "slice_axis":
                whole, part = self.view(node.source()), self._part(node)
                view = View(whole.map, whole.channel + part.start, len(part))
            else:
                view = self._new_map(self._channels[id(node)])
            self._views[id(node)] = view
        return self._views[id(node)]

    def owner(self, node: Node) -> Node:
        """Return the node that writes what this one stands for."""
        while id(node) in self._absorbed:
            node = self._absorbed[id(node)]
        return node

    def _new_map(self, channels: int) -> View:
        self.maps.append(Map(channels))
        return View(len(self.maps) - 1, 0, channels)

    def _part(self, node: Node) -> range:
        """Return the channels that a slice takes."""
        begin, end = (ast.literal_eval(node.attrs[key]) for key in ("begin", "end"))
        return range(self._channels[id(node.source())])[begin:end]

    def _continue_first(self, concat: Node) -> None:
        """Place a concatenation that begins with the last channels of a tensor behind all of it."""
        first = self.owner(concat)
        while first.op == "Concat":
            first = self.owner(first.inputs[0][0])
        if first.op != "slice_axis" or id(concat) in self._views:
            return
        whole, part = self.owner(first.source()), self._part(first)
        channels = self._channels[id(whole)]
        if part.stop != channels or id(whole) in self._views or whole.op in ("null", "slice_axis"):
            return
        place = self._new_map(part.start + self._channels[id(concat)])
        self._views[id(whole)] = dataclasses.replace(place, channels=channels)
        self._views[id(first)] = View(place.map, part.start, len(part))
        self._views[id(concat)] = View(place.map, part.start, place.channels - part.start)

    def _lay_side_by_side(self, concat: Node) -> None:
        """Give the parts places in the concatenation; those that have one already are copied."""
        whole = self.view(concat)
        channel, copies = whole.channel, []
        for index, (part, _) in enumerate(concat.inputs):
            part = self.owner(part)
            place = View(whole.map, channel, self._channels[id(part)])
            if id(part) not in self._views and part.op not in ("null", "slice_axis"):
                self._views[id(part)] = place
            if self._views.get(id(part)) != place:
                copies.append(index)
            channel += place.channels
        self.copies[id(concat)] = copies
