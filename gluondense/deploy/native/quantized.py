"""A graph as a program over bytes: 8 bits a number, with a scale and a zero for each channel.

A byte q stands for low + step q. What a normalization and ReLU in front of a convolution make of
it, max(0, s x + t), is |s| step times max(0, q - zero), or of 255 - q where s is negative: the
weights take the factor before they become bytes, and only a subtraction is left. So every channel
of every map has all 256 values, however wide its neighbour's range is, and no layer rounds twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..calibrate import Calibration
from ..graph import free_name
from ..ir import Graph, Lowered, Node
from ..passes import batch_norm_line
from ..ranges import Range, collect_ranges
from .layout import View
from .lower import BLOB, BLOCK, Lowering, is_flat, one_operator, pack_filters, pair, slope_of

BYTES = "gluondense_bytes"
VECTOR = 64  # bytes of flips and zeros that are read at once
# column() of src/kernels.h, for the 32 lanes of two vectors.
COLUMNS = np.array([lane // 4 * 8 + v * 4 + lane % 4 for v in range(2) for lane in range(16)])


def as_byte_program(graph: Graph, calibration: Calibration) -> Lowered:
    """Return a graph of the one operator that computes what a graph does, in bytes.

    Parameters
    ----------
    graph
        After the passes of ``deploy.passes``.
    calibration
        Its images have been read; ``keep`` must be empty.

    Raises
    ------
    ValueError
        If the graph has an operator that no step stands for, or the calibration keeps layers.
    """
    if calibration.keep:
        raise ValueError(
            f"keep (={calibration.keep}): target='native_int8' keeps no layers in float; use "
            "target='int8'."
        )
    taken: set[str] = set()
    for node in graph.operators():
        node.name = free_name(node.name, taken)
    ranges = collect_ranges(
        *graph.to_symbol(),
        ByteLowering(graph).tensors(),
        calibration.batches(),
        calibration.method,
        calibration.percentile,
    )
    lowering = ByteLowering(graph, ranges)
    program, blob, bytes_ = lowering.lower_bytes()
    layers = [node for node in lowering.operators if node.op in ("Convolution", "FullyConnected")]
    found = {
        "method": calibration.method,
        "images": len(calibration.images),
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
        for node in self.operators:
            view = self.layout.view(node)
            self.layout.maps[view.map].bytes = id(node) not in self.floats
        for node in graph.nodes():
            if node.op == "null" and node.name not in graph.params:
                self.layout.maps[self.layout.view(node).map].bytes = True
        self.steps_of = [np.ones(entry.channels) for entry in self.layout.maps]
        self.lows = [np.zeros(entry.channels) for entry in self.layout.maps]
        self.byte_blob: list[np.ndarray] = []
        self.byte_size = 0

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
            elif node.op in ("BatchNorm", "_contrib_BatchNormWithReLU") and self._border(node):
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

    def _spread(self, name: str, view: View, rectified: bool) -> tuple[np.ndarray, np.ndarray]:
        """Spread the bytes of a new tensor over its range."""
        found = self.ranges[name]
        low = np.maximum(found.channel_low, min(found.low, 0)).astype("float64")
        high = np.minimum(found.channel_high, max(found.high, 0)).astype("float64")
        if rectified or self.layout.maps[view.map].border:
            low, high = np.minimum(low, 0), np.maximum(high, 0)
        widest = np.abs([low, high]).max()
        step = np.maximum(high - low, max(1e-6 * widest, 1e-30)) / 255
        self._set_line(view, step, low)
        return step, low

    def image(self, node: Node) -> None:
        """Emit the reading of the images."""
        view = self.layout.view(node)
        step, low = self._spread(node.name, view, False)
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
        if id(node) in self.floats:
            super().convolution(node)
            return
        weight = self.graph.array(node, 1).astype("float64")
        groups = int(node.attrs.get("num_group", "1"))
        bias = self.graph.array(node, 2) if len(node.inputs) > 2 else np.zeros(len(weight))
        image = self.layout.view(self._image(node))
        factor, offset = self._line(image)
        words: dict[str, Any] = {}
        norm = self.prologue.get(id(node))
        if norm is not None:
            flip, zero, factor, offset = rectify(*batch_norm_line(self.graph, norm), factor, offset)
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
            words[key] = self._store(_in_columns(values, blocks["block_out"]))
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
        name = f"{self.written[id(node)].name}_output"
        step, low = self._spread(name, self.layout.view(node), slope == 0)
        if slope in (0, 1):
            # Cutting off below 0 is the ReLU: then low is 0.
            lines = {key: values / step for key, values in lines.items()}
            return {**lines, "scale": scale / step, "bias": (bias - low) / step}
        return {**lines, "bias": bias, "out_scale": 1 / step, "out_shift": -low / step}

    def normalization(self, node: Node) -> None:
        """Emit a normalization that no convolution takes over."""
        view, out = self.layout.view(node.source()), self.layout.view(node)
        (scale, shift), (step, low) = batch_norm_line(self.graph, node), self._line(view)
        rectified = node.op == "_contrib_BatchNormWithReLU"
        if self._border(node):
            # A border must hold 0, which the cheap way has no byte for where a ReLU is always on.
            new_step, new_low = self._spread(f"{node.name}_output", out, rectified)
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
        if node.attrs.get("pool_type") == "avg" and any(pair(node, "pad", 0)):
            raise ValueError(
                f"8 bits have no step for a mean over the edge (node {node.name}): use "
                "target='native'."
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
        if id(node) in self.floats:
            super().addition(node)
            return
        first, second = (self.layout.view(source) for source, _ in node.inputs)
        (step, low), (other, other_low) = self._line(first), self._line(second)
        line = {"scale": step, "shift": low + other_low, "add_scale": other}
        out = self.layout.view(node)
        spread = self._spread(f"{self.written[id(node)].name}_output", out, False)
        self._general(first, out, line, 1, *spread, add=second)

    def activation(self, node: Node) -> None:
        """Emit an activation that no convolution takes over."""
        if id(node) in self.floats:
            super().activation(node)
            return
        view, out = self.layout.view(node.source()), self.layout.view(node)
        step, low = self._line(view)
        slope = slope_of(node)
        spread = self._spread(f"{self.written[id(node)].name}_output", out, slope == 0)
        self._general(view, out, {"scale": step, "shift": low}, slope, *spread)


def rectify(
    scale: np.ndarray, shift: np.ndarray, step: np.ndarray, low: np.ndarray, on: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return flip and zero of bytes, so that max(0, (q ^ flip) - zero) stands for a ReLU.

    Parameters
    ----------
    scale, shift
        Of the normalization, max(0, scale x + shift).
    step, low
        Of the bytes, x = low + step q.
    on
        Whether there is a ReLU behind the normalization.

    Returns
    -------
    flip, zero, factor, offset
        Two arrays of bytes, and what the result's bytes stand for: offset + factor q.

    Examples
    --------
    >>> scale, shift = np.array([2.0, -2.0, 1.0]), np.array([-8.0, 8.0, 5.0])
    >>> for found in rectify(scale, shift, step=np.ones(3), low=np.zeros(3)):
    ...     print(found)
    [  0 255   0]
    [  4 251   0]
    [2. 2. 1.]
    [0. 0. 5.]
    """
    falling = scale < 0
    flip = np.where(falling, 255, 0)
    factor = np.abs(scale) * step
    # What the smallest byte, after the flip, stands for.
    least = scale * (low + np.where(falling, 255, 0) * step) + shift
    if not on:
        return flip.astype("uint8"), np.zeros(len(flip), "uint8"), factor, least
    flat = factor == 0
    zero = np.where(flat, 255, np.round(-least / np.where(flat, 1, factor)).clip(0, 255))
    offset = np.where(flat, np.maximum(shift, 0), np.maximum(least, 0))
    return flip.astype("uint8"), zero.astype("uint8"), factor, offset


def pack_bytes(filters: np.ndarray, joined: bool) -> np.ndarray:
    """Arrange blocks (blocks, H, W, C, 32) of filters for sums of four products at a time.

    Parameters
    ----------
    filters
        What ``pack_filters`` returns, of whole numbers from -127 to 127.
    joined
        Whether a filter's columns lie side by side in the image, as one run.
    """
    blocks, height, width = filters.shape[:3]
    runs = filters.reshape(blocks, height if joined else height * width, -1, BLOCK)
    runs = np.pad(runs, ((0, 0), (0, 0), (0, -runs.shape[2] % 4), (0, 0)))
    fours = runs.reshape(blocks, runs.shape[1], -1, 4, BLOCK)[..., COLUMNS]
    return np.ascontiguousarray(fours.swapaxes(-1, -2)).astype("int8")


def _in_columns(values: np.ndarray, width: int) -> np.ndarray:
    """Arrange a number for each channel in blocks of lanes, as the sums lie."""
    blocks = -(-len(values) // width)
    lanes = np.zeros((blocks, BLOCK))
    padded = np.pad(np.asarray(values, "float64"), (0, blocks * width - len(values)))
    lanes[:, :width] = padded.reshape(blocks, width)
    return lanes[:, COLUMNS]
