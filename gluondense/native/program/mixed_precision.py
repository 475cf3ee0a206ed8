# SPDX-License-Identifier: Apache-2.0
"""Lowering to steps over bytes and over floats, and the conversions between them.

Each convolution computes in int8 or in float32. A map is one of floats if all convolutions that
write to it are in float32, and one of bytes otherwise. Where a step reads or writes a map of the
other type, an ``affine`` step in front of it or behind it converts the values.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from ...graph.ir import Graph, Node
from .channel_quantization import ChannelQuantization, nodes_in_float, set_types
from .lower import EMIT, Lowering
from .memory_plan import ChannelSlice
from .operators import COMBINED, check_int8_operators

LAYERS = ("Convolution", "FullyConnected")
MAX_AVERAGED = 257  # kMaxAveragedBytes of src/kernels/inference_kernels.h


class MixedLowering(Lowering):
    """Lowers the layers that are ``excluded`` from quantization, and converts between types.

    A subclass has the methods that emit steps over bytes, and sets the quantization.
    """

    def __init__(self, graph: Graph, excluded: Collection[str] = ()) -> None:
        super().__init__(graph)
        check_int8_operators(self.operators)
        self.pooled = nodes_in_float(self.operators)
        # The nodes whose outputs are in maps: the image and what is computed from it.
        nodes = (node for node in graph.nodes() if node.name not in graph.params)
        self.stored = [node for node in nodes if id(node) not in self.skipped]
        self._set_types(excluded)
        self.quantization = ChannelQuantization(entry.channels for entry in self.plan.maps)
        # Of the step that is being emitted: whether it computes in int8, and the slice of floats
        # that is converted to its output.
        self.in_int8 = True
        self.unconverted: ChannelSlice | None = None

    def layers(self) -> tuple[list[str], set[str]]:
        """Return the names of all layers, and of those that are always in float32."""
        layers = [node for node in self.operators if node.op in LAYERS]
        always = {node.name for node in layers if id(node) in self.pooled}
        return [node.name for node in layers], always

    def _set_types(self, excluded: Collection[str]) -> None:
        """Choose the layers that stay in float32, and the maps of bytes."""
        layers = [node for node in self.operators if node.op in LAYERS]
        self.in_float = self.pooled | {id(node) for node in layers if node.name in excluded}
        in_int8 = {id(node) for node in layers} - self.in_float
        for node in self.stored:
            if node.op == "null":
                readers = [id(conv) for conv in layers if self._image(conv) is node]
                if not readers or in_int8.intersection(readers):
                    in_int8.add(id(node))
        set_types(self.plan, self.stored, in_int8, self.in_float)
        for node in self.stored:
            if id(node) in self.pooled and self._is_u8(self.plan.slice_of(node)):
                raise ValueError(
                    "target='native_int8' has no step that concatenates pooled pixels and feature "
                    f"maps (node {node.name}): use target='native'."
                )

    def _is_u8(self, part: ChannelSlice) -> bool:
        return self.plan.maps[part.map].is_u8

    def _emit_node(self, node: Node) -> None:
        if node.op not in EMIT:
            return
        self.in_int8 = self._computes_in_int8(node)
        method = getattr(self if self.in_int8 else super(), EMIT[node.op])
        method(node)
        if self.unconverted is not None:
            self._convert(self.unconverted, self.plan.slice_of(node))
            self.unconverted = None

    def _computes_in_int8(self, node: Node) -> bool:
        if node.op in LAYERS:
            return id(node) not in self.in_float
        if is_float_average(node) or node.op in COMBINED:
            return False
        sources = [source for source, _ in node.inputs if source.name not in self.graph.params]
        return all(self._is_u8(self.plan.slice_of(tensor)) for tensor in (node, *sources))

    def _input(self, node: Node, pad: int = 0) -> ChannelSlice:
        part = self.plan.slice_of(node)
        if self._is_u8(part) == self.in_int8:
            return super()._input(node, pad)
        converted = self._new_map(part, self.in_int8)
        self.plan.maps[converted.map].pad = pad
        self._convert(part, converted)
        return converted

    def _output(self, node: Node) -> ChannelSlice:
        part = self.plan.slice_of(node)
        if self._is_u8(part) == self.in_int8:
            return part
        self.unconverted = self._new_map(part, self.in_int8)
        return self.unconverted

    def _new_map(self, part: ChannelSlice, is_u8: bool) -> ChannelSlice:
        """Add a map for the values of a slice."""
        self.quantization.add_map(*self.quantization.get(part))
        return self.plan.new_map(part.channels, is_u8)

    def _convert(self, source: ChannelSlice, target: ChannelSlice) -> None:
        """Emit the conversion of bytes to floats or of floats to bytes."""
        if self._is_u8(target):
            words = self._quantize_words(target)
        else:
            words = self._dequantization(source)
        self._step("affine", in_=source, out=target, **words)

    def _add_arrays(self, **arrays: np.ndarray) -> dict[str, int]:
        """Append to the program's floats; return the offsets."""
        return {name: self._add_floats(array) for name, array in arrays.items()}

    def _dequantization(self, part: ChannelSlice) -> dict[str, int]:
        """Append what a slice's bytes represent; nothing for a slice of floats."""
        if not self._is_u8(part):
            return {}
        scale, offset = self.quantization.get(part)
        return self._add_arrays(scale=scale, shift=offset)

    def _quantize_words(self, part: ChannelSlice) -> dict[str, int]:
        """Append the scale and shift that convert floats to a slice's bytes."""
        scale, offset = self.quantization.get(part)
        scale = np.where(scale > 0, scale, 1)  # a constant channel is its offset
        return self._add_arrays(scale=1 / scale, shift=-offset / scale)


def is_float_average(node: Node) -> bool:
    """Return whether bytes have no step for a pooling: an average with padding or a large one."""
    if node.op != "Pooling" or node.attrs.get("pool_type") != "avg" or node.flag("global_pool"):
        return False
    padded = any(node.pair("pad", 0)) and node.flag("count_include_pad", True)
    return padded or bool(np.prod(node.pair("kernel")) > MAX_AVERAGED)
