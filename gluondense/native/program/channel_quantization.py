# SPDX-License-Identifier: Apache-2.0
"""Which tensors are bytes, and what they represent: scale * q + offset, by channel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ...graph.ir import Node
from ...graph.ranges import Range
from .memory_plan import ChannelSlice, MemoryPlan
from .operators import RESAMPLED


def nodes_in_float(operators: Iterable[Node]) -> set[int]:
    """Return the ids of the global poolings and of the operators that follow them.

    Their few pixels cost too little to be worth int8.
    """
    found: set[int] = set()
    for node in operators:
        is_global = node.op == "Pooling" and node.flag("global_pool")
        if is_global or any(id(source) in found for source, _ in node.inputs):
            found.add(id(node))
    return found


def set_types(
    plan: MemoryPlan, nodes: Sequence[Node], in_int8: set[int], in_float: set[int]
) -> None:
    """Make a map uint8 if one of its tensors is; the others stay float32.

    ``in_int8`` and ``in_float`` are the ids of the nodes whose outputs have a type; the outputs of
    other nodes have that of their inputs.
    """
    stored, count = set(map(id, nodes)), -1
    found: set[int] = set()  # maps of bytes
    while count < len(found):
        count = len(found)
        for node in nodes:
            sources = [source for source, _ in node.inputs if id(source) in stored]
            is_u8 = any(plan.slice_of(source).map in found for source in sources)
            owner = id(plan.owner(node))
            if owner in in_int8 or (owner not in in_float and is_u8):
                found.add(plan.slice_of(node).map)
    for index in found:
        plan.maps[index].is_u8 = True


def nodes_with_zero(plan: MemoryPlan, nodes: Sequence[Node], padded: set[int]) -> set[int]:
    """Return the ids of the nodes whose bytes must represent 0.

    Those are in maps that are read with padding, ``padded``, or are copied or pooled into such a
    map.
    """
    found: set[int] = set()
    for node in reversed(nodes):
        if plan.slice_of(node).map in padded or id(node) in found:
            found.add(id(plan.owner(node)))
            if node.op in ("Concat", "Pooling", "slice_axis", *RESAMPLED):
                found.update(id(plan.owner(source)) for source, _ in node.inputs)
    return found


class ChannelQuantization:
    """The scale and offset of each channel of a program's maps; 1 and 0 at first."""

    def __init__(self, channels: Iterable[int]) -> None:
        self._params = [np.stack([np.ones(count), np.zeros(count)]) for count in channels]

    def add_map(self, scale: np.ndarray, offset: np.ndarray) -> None:
        """Add a map."""
        self._params.append(np.stack([scale, offset]))

    def get(self, part: ChannelSlice) -> tuple[np.ndarray, np.ndarray]:
        """Return the scales and offsets of a slice."""
        scale, offset = self._params[part.map][:, part.index]
        return scale, offset

    def set(self, part: ChannelSlice, scale: np.ndarray, offset: np.ndarray) -> None:
        """Set the scales and offsets of a slice."""
        self._params[part.map][:, part.index] = scale, offset

    def zero_points(self, index: int) -> np.ndarray:
        """Return the bytes that represent 0 in map number ``index``, rounded but not clipped."""
        scale, offset = self._params[index]
        return np.round(-offset / scale)


def quantize_range(found: Range, include_zero: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return scales and offsets with which 256 values cover each channel's calibrated range.

    The range's clipping applies to all channels, except those that are outside of it. With
    ``include_zero``, a byte represents 0.
    """
    low, high = np.asarray(found.channel_low, "float64"), np.asarray(found.channel_high, "float64")
    clipped_low, clipped_high = np.maximum(low, found.low), np.minimum(high, found.high)
    inside = clipped_low < clipped_high
    low, high = np.where(inside, clipped_low, low), np.where(inside, clipped_high, high)
    if include_zero:
        low, high = np.minimum(low, 0), np.maximum(high, 0)
    widest = np.abs([low, high]).max()
    return np.maximum(high - low, max(1e-6 * widest, 1e-30)) / 255, low
