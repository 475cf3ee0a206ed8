"""A graph as a program over bytes: 8 bits a number, with a scale and a zero for each channel.

A byte q stands for low + step q. What a normalization and ReLU in front of a convolution make of
it, max(0, s x + t), is |s| step times max(0, q - zero), or of 255 - q where s is negative: the
weights take the factor before they become bytes, and only a subtraction is left. So every channel
of every map has all 256 values, however wide its neighbour's range is, and no layer rounds twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...graph.inference_passes import batch_norm_affine
from ...graph.ir import Graph, Lowered, Node
from ...graph.ranges import Range, collect_ranges
from .lower import BLOB, EMIT, Lowering, one_operator
from .memory_plan import View
from .operators import is_flat, pair, slope_of
from .packing import in_columns, pack_bytes, pack_filters, rectify

BYTES = "gluondense_bytes"
MOST_MEANT = 257  # 16 bits hold the sum of so many bytes
NORMS = ("BatchNorm", "_contrib_BatchNormWithReLU")
VECTOR = 64  # bytes of flips and zeros that are read at once


def as_byte_program(
    graph: Graph, batches: Sequence[np.ndarray], method: str, percentile: float
) -> Lowered:
    """Return a graph of the one operator that computes what a graph does, in bytes.

    Parameters
    ----------
    graph
        After the passes of ``deploy.passes``.
    batches
        Calibration images, arrays (N, C, H, W).
    method, percentile
        How their ranges are taken, see :func:`.ranges.collect_ranges`.

    Raises
    ------
    ValueError
        If the graph has an operator that no step stands for.
    """
    graph.rename_duplicates()
    ranges = collect_ranges(
        *graph.to_symbol(),
        ByteLowering(graph).tensors(),
        batches,
        method,
        percentile,
    )
    lowering = ByteLowering(graph, ranges)
    program, blob, bytes_ = lowering.lower_bytes()
    layers = [node for node in lowering.operators if node.op in ("Convolution", "FullyConnected")]
    found = {
        "method": method,
        "images": sum(map(len, batches)),
        "layers": len(layers),
        "kept": [node.name for node in layers if id(node) in lowering.floats],
    }
    return Lowered(*one_operator(graph, program, {BLOB: blob, BYTES: bytes_}), found)


class ByteLowering(Lowering):
    """A program over bytes under construction.

    Parameters
    ----------
    graph
        After the passes of ``deploy.passes``.
    ranges
        Of all tensors in :meth:`tensors`.
    """

    def __init__(self, graph: Graph, ranges: Mapping[str, Range] | None = None) -> None:
        super().__init__(graph)
        # The last of the nodes that an operator computes names what it writes.
        self.written = {id(self._owner(node)): node for node in self.operators}
        self.ranges = ranges or {}
        self.floats: set[int] = set()  # nodes behind a global pooling
        for node in self.operators:
            pooled = node.op == "Pooling" and node.attrs.get("global_pool") in ("True", "1")
            if pooled or any(id(source) in self.floats for source, _ in node.inputs):
                self.floats.add(id(node))
        self._choose_maps()
        # Nodes whose bytes must have one for 0: what lies in a border is copied or pooled of them.
        self.with_zero: set[int] = set()
        for node in reversed(self._holders()):
            if self._border(node) or id(node) in self.with_zero:
                self.with_zero.add(id(self._owner(node)))
                if node.op in ("Concat", "Pooling", "slice_axis"):
                    self.with_zero.update(id(self._owner(source)) for source, _ in node.inputs)
        self.steps_of = [np.ones(entry.channels) for entry in self.layout.maps]
        self.lows = [np.zeros(entry.channels) for entry in self.layout.maps]
        self.byte_blob: list[np.ndarray] = []
        self.byte_size = 0

    def _holders(self) -> list[Node]:
        """Return the nodes whose outputs lie in maps: the image and what is computed of it."""
        return [
            node
            for node in self.graph.nodes()
            if node.name not in self.graph.params and id(node) not in self.skipped
        ]

    def _choose_maps(self) -> None:
        kinds: dict[int, bool] = {}
        for node in self._holders():
            entry = self.layout.view(node).map
            if kinds.setdefault(entry, id(node) not in self.floats) != (
                id(node) not in self.floats
            ):
                raise ValueError(
                    f"8 bits have no step for maps of one pixel beside others (node {node.name}): "
                    "use target='native'."
                )
            self.layout.maps[entry].bytes = kinds[entry]

    def tensors(self) -> list[str]:
        """Names of the tensors whose ranges are needed."""
        names = [
            node.name
            for node in self.graph.nodes()
            if node.op == "null" and node.name not in self.graph.params
        ]
        for node in self.operators:
            if id(node) in self.absorbed or id(node) in self.floats:
                continue
            if node.op in ("Convolution", "elemwise_add", "Activation", "LeakyReLU"):
                names.append(f"{self.written[id(node)].name}_output")
            elif node.op in NORMS and id(node) in self.with_zero:
                names.append(f"{node.name}_output")
        return names

    def lower_bytes(self) -> tuple[str, np.ndarray, np.ndarray]:
        """Return the program, its floats and its bytes."""
        text, blob = self.lower()
        return text, blob, np.concatenate(self.byte_blob)

    def _emit(self) -> None:
        super()._emit()
        for entry, low, step in zip(self.layout.maps, self.lows, self.steps_of):
            zero = np.round(-low / step)
            if entry.bytes and entry.border and zero.any():
                entry.edge = self._store_bytes(zero.clip(0, 255).astype("uint8"))

    def _emit_node(self, node: Node) -> None:
        """Emit what a node stands for, in floats where its inputs are."""
        sources = [id(source) for source, _ in node.inputs if source.name not in self.graph.params]
        if self.floats.issuperset([id(node), *sources]):
            getattr(super(), EMIT[node.op])(node)
        else:
            super()._emit_node(node)

    def _head(self) -> str:
        return f"{super()._head()} bytes={self.byte_size}"

    def _border(self, node: Node) -> int:
        return self.layout.maps[self.layout.view(node).map].border

    def _store_bytes(self, array: np.ndarray) -> int:
        """Add bytes, and return where they begin."""
        begin = self.byte_size
        flat = array.view("int8").ravel()
        self.byte_blob.append(np.pad(flat, (0, -flat.size % VECTOR)))
        self.byte_size += self.byte_blob[-1].size
        return begin

    def _line(self, view: View) -> tuple[np.ndarray, np.ndarray]:
        """Return step and low of each channel."""
        channels = slice(view.channel, view.channel + view.channels)
        return self.steps_of[view.map][channels], self.lows[view.map][channels]

    def _set_line(self, view: View, step: np.ndarray, low: np.ndarray) -> None:
        channels = slice(view.channel, view.channel + view.channels)
        self.steps_of[view.map][channels], self.lows[view.map][channels] = step, low

    def _spread(self, node: Node, rectified: bool, name: str = "") -> tuple[np.ndarray, np.ndarray]:
        """Spread the bytes of what a node writes over its range."""
        view = self.layout.view(node)
        found = self.ranges[name or f"{self.written[id(node)].name}_output"]
        low, high = (np.asarray(end, "float64") for end in (found.channel_low, found.channel_high))
        # What the method cuts off of all channels; one that lies beyond it stays whole.
        cut_low, cut_high = np.maximum(low, found.low), np.minimum(high, found.high)
        inside = cut_low < cut_high
        low, high = np.where(inside, cut_low, low), np.where(inside, cut_high, high)
        if rectified or id(node) in self.with_zero:
            low, high = np.minimum(low, 0), np.maximum(high, 0)
        widest = np.abs([low, high]).max()
        step = np.maximum(high - low, max(1e-6 * widest, 1e-30)) / 255
        self._set_line(view, step, low)
        return step, low

    def image(self, node: Node) -> None:
        """Emit the reading of the images."""
        view = self.layout.view(node)
        step, low = self._spread(node, False, node.name)
        self._step("load", out=view, scale=self._store(1 / step), shift=self._store(-low / step))

    def output(self, node: Node, index: int) -> None:
        """Emit the writing of an output."""
        view = self.layout.view(node)
        line = {}
        if self.layout.maps[view.map].bytes:
            step, low = self._line(view)
            line = {"scale": self._store(step), "shift": self._store(low)}
        self._step("store", into=view, output=index, flat=is_flat(node), **line)

    def convolution(self, node: Node) -> None:
        """Emit a convolution with what is fused into it."""
        weight = self.graph.array(node, 1).astype("float64")
        groups = int(node.attrs.get("num_group", "1"))
        bias = self.graph.array(node, 2) if len(node.inputs) > 2 else np.zeros(len(weight))
        image = self.layout.view(self._image(node))
        factor, offset = self._line(image)
        words: dict[str, Any] = {}
        norm = self.prologue.get(id(node))
        if norm is not None:
            flip, zero, factor, offset = rectify(
                *batch_norm_affine(self.graph, norm), factor, offset
            )
            words.update(flip=self._store_bytes(flip), zero=self._store_bytes(zero))
        # Channel of the image that each filter's depth stands for.
        depth = weight.shape[1]
        group = np.arange(len(weight)) // (len(weight) // groups)
        channel = group[:, None] * depth + np.arange(depth)
        bias = bias + (weight.sum(axis=(2, 3)) * offset[channel]).sum(axis=1)
        weight = weight * factor[channel][:, :, None, None]
        scale = np.maximum(np.abs(weight).max(axis=(1, 2, 3)), 1e-30) / 127
        filters = np.round(weight / scale[:, None, None, None])
        lines = {"scale": scale, "bias": bias, **self._epilogue(node, words, scale, bias)}
        blocks, (packed, _) = pack_filters(filters, bias, groups)
        joined = blocks["block_in"] == self.layout.maps[image.map].channels
        for key, values in lines.items():
            words[key] = self._store(in_columns(values, blocks["block_out"]))
        self._step(
            "conv",
            into=image,
            out=self.layout.view(node),
            kernel=weight.shape[2:],
            stride=pair(node, "stride"),
            pad=pair(node, "pad", 0),
            **blocks,
            slope=self.slope.get(id(node), 1),
            weight=self._store_bytes(pack_bytes(packed, joined)),
            **words,
        )

    def _epilogue(
        self, node: Node, words: dict[str, Any], scale: np.ndarray, bias: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return the lines that make bytes of a convolution's sums, and say what is added."""
        slope = self.slope.get(id(node), 1)
        lines: dict[str, np.ndarray] = {}
        addend = self.addend.get(id(node))
        if addend is not None:
            view = words["add"] = self.layout.view(addend)
            lines["add_scale"], low = self._line(view)
            bias = bias + low
        step, low = self._spread(node, slope == 0)
        if slope in (0, 1):
            # Cutting off below 0 is the ReLU: then low is 0.
            lines = {key: values / step for key, values in lines.items()}
            return {**lines, "scale": scale / step, "bias": (bias - low) / step}
        return {**lines, "bias": bias, "out_scale": 1 / step, "out_shift": -low / step}

    def normalization(self, node: Node) -> None:
        """Emit a normalization that no convolution takes over."""
        view, out = self.layout.view(node.source()), self.layout.view(node)
        (scale, shift), (step, low) = batch_norm_affine(self.graph, node), self._line(view)
        rectified = node.op == "_contrib_BatchNormWithReLU"
        if id(node) in self.with_zero:
            # The cheap way has no byte for 0 where a ReLU is always on.
            new_step, new_low = self._spread(node, rectified)
            line = {"scale": step * scale, "shift": low * scale + shift}
            self._general(view, out, line, 0 if rectified else 1, new_step, new_low)
            return
        flip, zero, factor, offset = rectify(scale, shift, step, low, rectified)
        words = {"flip": self._store_bytes(flip), "zero": self._store_bytes(zero)}
        self._step("affine", into=view, out=out, **words)
        self._set_line(out, factor, offset)

    def _general(
        self,
        view: View,
        out: View,
        line: dict[str, np.ndarray],
        slope: float,
        step: np.ndarray,
        low: np.ndarray,
        add: View | None = None,
    ) -> None:
        lines = {**line, "out_scale": 1 / step, "out_shift": -low / step}
        words = {key: self._store(values) for key, values in lines.items()}
        self._step("copy", into=view, out=out, add=add, slope=slope, **words)

    def pooling(self, node: Node) -> None:
        """Emit a pooling."""
        view, out = self.layout.view(node.source()), self.layout.view(node)
        step, low = self._line(view)
        if id(node) in self.floats:
            highest = int(node.attrs.get("pool_type", "max") == "max")
            line = {}
            if self.layout.maps[view.map].bytes:
                line = {"scale": self._store(step), "shift": self._store(low)}
            self._step("global", into=view, out=out, max=highest, **line)
            return
        means = node.attrs.get("pool_type") == "avg"
        if means and (any(pair(node, "pad", 0)) or np.prod(pair(node, "kernel")) > MOST_MEANT):
            raise ValueError(
                f"8 bits have no step for a mean over the edge or of more than {MOST_MEANT} pixels "
                f"(node {node.name}): use target='native'."
            )
        super().pooling(node)
        self._set_line(out, step, low)

    def concatenation(self, node: Node) -> None:
        """Copy the parts that could not be written in their places."""
        super().concatenation(node)
        whole, channel = self.layout.view(node), 0
        for index, (part, _) in enumerate(node.inputs):
            view = self.layout.view(part)
            if index in self.layout.copies[id(node)]:
                place = View(whole.map, whole.channel + channel, view.channels)
                self._set_line(place, *self._line(view))
            channel += view.channels

    def addition(self, node: Node) -> None:
        """Emit an addition that no convolution takes over."""
        first, second = (self.layout.view(source) for source, _ in node.inputs)
        (step, low), (other, other_low) = self._line(first), self._line(second)
        line = {"scale": step, "shift": low + other_low, "add_scale": other}
        out = self.layout.view(node)
        spread = self._spread(node, False)
        self._general(first, out, line, 1, *spread, add=second)

    def activation(self, node: Node) -> None:
        """Emit an activation that no convolution takes over."""
        view, out = self.layout.view(node.source()), self.layout.view(node)
        step, low = self._line(view)
        slope = slope_of(node)
        spread = self._spread(node, slope == 0)
        self._general(view, out, {"scale": step, "shift": low}, slope, *spread)
