# SPDX-License-Identifier: Apache-2.0
"""Feature maps of a program, in which concatenations need no copies."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ...graph.ir import Node


@dataclasses.dataclass
class FeatureMap:
    """A map of a program, with padding around the image."""

    channels: int
    pad: int = 0  # pixels on each side
    is_u8: bool = False  # otherwise float32
    pad_values: int | None = None  # offset of each channel's byte in the padding; None if all are 0

    def __str__(self) -> str:
        words = [f"map channels={self.channels} border={self.pad}"]
        words += ["bytes=1"] if self.is_u8 else []
        words += [f"edge={self.pad_values}"] if self.pad_values is not None else []
        return " ".join(words)


@dataclasses.dataclass(frozen=True)
class ChannelSlice:
    """A range of channels of a map."""

    map: int  # index
    channel: int  # the first
    channels: int  # their number

    def __str__(self) -> str:
        return f"{self.map},{self.channel},{self.channels}"

    def part(self, channel: int, channels: int) -> ChannelSlice:
        """Return ``channels`` channels of this slice, from its channel ``channel`` on."""
        return ChannelSlice(self.map, self.channel + channel, channels)

    @property
    def index(self) -> slice:
        """The channels as an index into an array of the map's channels."""
        return slice(self.channel, self.channel + self.channels)


class MemoryPlan:
    """Assigns a slice of a map to each tensor of a graph.

    Parameters
    ----------
    operators
        Operators of a graph in topological order.
    channels
        Number of channels of each node's output, by the node's id.
    fused
        The node that computes a node's output in its place, by id. Such nodes have no slice.
    """

    def __init__(
        self, operators: Sequence[Node], channels: dict[int, int], fused: dict[int, Node]
    ) -> None:
        self.maps: list[FeatureMap] = []
        self.copies: dict[int, list[int]] = {}  # inputs of each concatenation that must be copied
        self._slices: dict[int, ChannelSlice] = {}
        self._channels, self._fused = channels, fused
        for node in reversed(operators):
            if node.op == "Concat":
                self._extend_sliced(node)
                self._place_inputs(node)
        for node in operators:
            self.slice_of(node)

    def slice_of(self, node: Node) -> ChannelSlice:
        """Return the slice that holds a node's output."""
        node = self.owner(node)
        if id(node) not in self._slices:
            if node.op == "slice_axis":
                taken = channel_range(node, self._channels)
                part = self.slice_of(node.source()).part(taken.start, len(taken))
            else:
                part = self.new_map(self._channels[id(node)])
            self._slices[id(node)] = part
        return self._slices[id(node)]

    def owner(self, node: Node) -> Node:
        """Return the node that computes a node's output."""
        while id(node) in self._fused:
            node = self._fused[id(node)]
        return node

    def new_map(self, channels: int, is_u8: bool = False) -> ChannelSlice:
        """Add a map; return the slice of all its channels."""
        self.maps.append(FeatureMap(channels, is_u8=is_u8))
        return ChannelSlice(len(self.maps) - 1, 0, channels)

    def _extend_sliced(self, concat: Node) -> None:
        """Place a concatenation that begins with the last channels of a tensor behind that tensor.

        A cross-stage partial block does this: its dense layers extend the second part.
        """
        first = self.owner(concat)
        while first.op == "Concat":
            first = self.owner(first.inputs[0][0])
        if first.op != "slice_axis" or id(concat) in self._slices:
            return
        whole, taken = self.owner(first.source()), channel_range(first, self._channels)
        channels = self._channels[id(whole)]
        is_placed = id(whole) in self._slices or whole.op in ("null", "slice_axis")
        if taken.stop != channels or is_placed:
            return
        total = taken.start + self._channels[id(concat)]
        extended = self.new_map(total)
        self._slices[id(whole)] = extended.part(0, channels)
        self._slices[id(first)] = extended.part(taken.start, len(taken))
        self._slices[id(concat)] = extended.part(taken.start, total - taken.start)

    def _place_inputs(self, concat: Node) -> None:
        """Place a concatenation's inputs in its output; copy those that are placed elsewhere."""
        whole = self.slice_of(concat)
        channel, copies = 0, []
        for index, (source, _) in enumerate(concat.inputs):
            part = self.owner(source)
            target = whole.part(channel, self._channels[id(part)])
            if id(part) not in self._slices and part.op not in ("null", "slice_axis"):
                self._slices[id(part)] = target
            if self._slices.get(id(part)) != target:
                copies.append(index)
            channel += target.channels
        self.copies[id(concat)] = copies


def channel_range(node: Node, channels: dict[int, int]) -> range:
    """Return the channels that a ``slice_axis`` takes from its input."""
    return range(channels[id(node.source())])[node.value("begin") : node.value("end")]
