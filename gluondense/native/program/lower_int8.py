# SPDX-License-Identifier: Apache-2.0
"""Lowering of a graph to a program over bytes, with a scale and an offset for each channel.

A byte q represents scale * q + offset. The batch normalization and ReLU in front of a convolution,
max(0, a x + b), are |a| * scale times max(0, q - zero_point), or the same of 255 - q where a is
negative. The factor is folded into the weights before they are quantized, which leaves a
subtraction. So all 256 values cover the range of each channel, however wide those of other channels
are, and nothing is rounded twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...graph.inference_passes import batch_norm_affine
from ...graph.ir import Graph, Lowered, Node
from ...graph.ranges import Range, collect_ranges
from .channel_quantization import (
    ChannelQuantization,
    nodes_in_float,
    nodes_with_zero,
    quantize_range,
    set_types,
)
from .lower import EMIT, FLOATS, Lowering, activation_words, single_operator
from .memory_plan import ChannelSlice
from .packing import fold_bn_relu, pack_filters, pack_int8_filters, pack_lanes

BYTES = "gluondense_bytes"  # name of the array of bytes
MAX_AVERAGED = 257  # kMaxAveragedBytes of src/kernels/inference_kernels.h
VECTOR = 64  # kOverreadBytes: bytes that a kernel reads at once
NORMS = ("BatchNorm", "_contrib_BatchNormWithReLU")


def to_int8_program(
    graph: Graph, batches: Sequence[np.ndarray], method: str, percentile: float
) -> Lowered:
    """Lower a graph to one native operator that computes in int8.

    Parameters
    ----------
    graph
        A graph after the passes of :mod:`gluondense.graph.inference_passes`.
    batches
        Calibration images, (N, C, H, W) each.
    method, percentile
        As in :func:`gluondense.graph.ranges.collect_ranges`.

    Raises
    ------
    ValueError
        If an operator has no step.
    """
    graph.rename_duplicates()
    traced = graph.to_symbol()  # before operators that only programs have
    tensors = Int8Lowering(graph).tensors()
    ranges = collect_ranges(*traced, tensors, batches, method, percentile)
    lowering = Int8Lowering(graph, ranges)
    program, floats, bytes_ = lowering.lower_int8()
    layers = [node for node in lowering.operators if node.op in ("Convolution", "FullyConnected")]
    record = {
        "method": method,
        "images": sum(map(len, batches)),
        "layers": len(layers),
        "kept": [node.name for node in layers if id(node) in lowering.in_float],
    }
    return Lowered(*single_operator(graph, program, {FLOATS: floats, BYTES: bytes_}), record)


class Int8Lowering(Lowering):
    """Lowers a graph to a program over bytes.

    Without ``ranges``, the calibrated ranges of the tensors that :meth:`tensors` lists, it only
    lists these tensors.
    """

    def __init__(self, graph: Graph, ranges: Mapping[str, Range] | None = None) -> None:
        super().__init__(graph)
        # The last of the nodes that a step computes names the tensor that it writes.
        self.written = {id(self.plan.owner(node)): node for node in self.operators}
        self.ranges = ranges or {}
        self.in_float = nodes_in_float(self.operators)
        # The nodes whose outputs are in maps: the image and what is computed from it.
        nodes = (node for node in graph.nodes() if node.name not in graph.params)
        self.stored = [node for node in nodes if id(node) not in self.skipped]
        set_types(self.plan, self.stored, self.in_float)
        self.with_zero = nodes_with_zero(self.plan, self.stored)
        self.quantization = ChannelQuantization(entry.channels for entry in self.plan.maps)
        self.bytes: list[np.ndarray] = []
        self.byte_count = 0

    def tensors(self) -> list[str]:
        """Return the names of the tensors whose ranges are needed."""
        names = [node.name for node in self.stored if node.op == "null"]
        for node in self.operators:
            if id(node) in self.fused or id(node) in self.in_float:
                continue
            if node.op in ("Convolution", "elemwise_add", "Activation", "LeakyReLU", "silu"):
                names.append(f"{self.written[id(node)].name}_output")
            elif node.op in NORMS and id(node) in self.with_zero:
                names.append(f"{node.name}_output")
        return names

    def lower_int8(self) -> tuple[str, np.ndarray, np.ndarray]:
        """Return the program's text, its floats and its bytes."""
        text, floats = self.lower()
        return text, floats, np.concatenate(self.bytes)

    def _header(self) -> str:
        return f"{super()._header()} bytes={self.byte_count}"

    def _emit(self) -> None:
        super()._emit()
        for index, entry in enumerate(self.plan.maps):
            zero = self.quantization.zero_points(index)
            if entry.is_u8 and entry.pad and zero.any():
                entry.pad_values = self._add_bytes(zero.clip(0, 255).astype("uint8"))

    def _emit_node(self, node: Node) -> None:
        sources = [id(source) for source, _ in node.inputs if source.name not in self.graph.params]
        in_float = self.in_float.issuperset([id(node), *sources])
        if not in_float:
            super()._emit_node(node)
        elif node.op in EMIT:
            getattr(super(), EMIT[node.op])(node)

    def _add_bytes(self, array: np.ndarray) -> int:
        """Append to the program's bytes; return the offset."""
        offset = self.byte_count
        flat = array.view("int8").ravel()
        self.bytes.append(np.pad(flat, (0, -flat.size % VECTOR)))
        self.byte_count += self.bytes[-1].size
        return offset

    def _add_arrays(self, **arrays: np.ndarray) -> dict[str, int]:
        """Append to the program's floats; return the offsets."""
        return {name: self._add_floats(array) for name, array in arrays.items()}

    def _dequantization(self, part: ChannelSlice) -> dict[str, int]:
        """Append what a slice's bytes represent; nothing for a slice of floats."""
        if not self.plan.maps[part.map].is_u8:
            return {}
        scale, offset = self.quantization.get(part)
        return self._add_arrays(scale=scale, shift=offset)

    def _calibrate(self, node: Node, relu: bool, name: str = "") -> tuple[np.ndarray, np.ndarray]:
        """Set and return scale and offset of a node's output from its calibrated range."""
        found = self.ranges[name or f"{self.written[id(node)].name}_output"]
        params = quantize_range(found, relu or id(node) in self.with_zero)
        self.quantization.set(self.plan.slice_of(node), *params)
        return params

    def _load(self, node: Node) -> None:
        """Emit the step that reads and quantizes the images."""
        scale, offset = self._calibrate(node, False, node.name)
        quantize = self._add_arrays(scale=1 / scale, shift=-offset / scale)
        self._step("load", out=self.plan.slice_of(node), **quantize)

    def _store(self, node: Node, index: int, **words: Any) -> None:
        super()._store(node, index, **self._dequantization(self.plan.slice_of(node)))

    def _convolution(self, node: Node) -> None:
        """Emit a convolution with what is fused into it."""
        weight = self.graph.array(node, 1).astype("float64")
        bias = self.graph.array(node, 2) if len(node.inputs) > 2 else np.zeros(len(weight))
        image = self.plan.slice_of(self._image(node))
        factor, offset = self.quantization.get(image)
        words: dict[str, Any] = {}
        norm = self.prologue.get(id(node))
        if norm is not None:
            xor_mask, zero_point, factor, offset = fold_bn_relu(
                *batch_norm_affine(self.graph, norm), factor, offset
            )
            words.update(flip=self._add_bytes(xor_mask), zero=self._add_bytes(zero_point))
        # The input channel of each filter's weights.
        depth = weight.shape[1]
        group = np.arange(len(weight)) // (len(weight) // node.groups)
        channel = group[:, None] * depth + np.arange(depth)
        bias = bias + (weight.sum(axis=(2, 3)) * offset[channel]).sum(axis=1)
        weight = weight * factor[channel][:, :, None, None]
        scale = np.maximum(np.abs(weight).max(axis=(1, 2, 3)), 1e-30) / 127
        filters = np.round(weight / scale[:, None, None, None])
        epilogue = {"scale": scale, "bias": bias, **self._epilogue(node, words, scale, bias)}
        panels, (packed, _) = pack_filters(filters, bias, node.groups)
        joined = panels["block_in"] == self.plan.maps[image.map].channels
        for key, values in epilogue.items():
            words[key] = self._add_floats(pack_lanes(values, panels["block_out"]))
        self._step(
            "conv",
            in_=image,
            out=self.plan.slice_of(node),
            kernel=weight.shape[2:],
            stride=node.pair("stride"),
            pad=node.pair("pad", 0),
            **panels,
            slope=self.slope.get(id(node), 1),
            weight=self._add_bytes(pack_int8_filters(packed, joined)),
            **words,
        )

    def _epilogue(
        self, node: Node, words: dict[str, Any], scale: np.ndarray, bias: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return the arrays that convert a convolution's sums to bytes; set the word ``add``."""
        slope = self.slope.get(id(node), 1)
        arrays: dict[str, np.ndarray] = {}
        residual, add_last = self.residual.get(id(node)), id(node) in self.add_last
        last_offset: Any = 0.0  # of a residual behind the activation
        if residual is not None:
            words.update(add=self.plan.slice_of(residual), add_last=self._adds_last(node))
            arrays["add_scale"], residual_offset = self.quantization.get(words["add"])
            if add_last:
                last_offset = residual_offset
            else:
                bias = bias + residual_offset
        out_scale, offset = self._calibrate(node, slope == 0 and not add_last)
        if slope in (0, 1) and not add_last:
            # Clipping to bytes is the ReLU: the offset is 0 then.
            arrays = {key: values / out_scale for key, values in arrays.items()}
            return {**arrays, "scale": scale / out_scale, "bias": (bias - offset) / out_scale}
        arrays.update(
            bias=bias, out_scale=1 / out_scale, out_shift=(last_offset - offset) / out_scale
        )
        return arrays

    def _normalization(self, node: Node) -> None:
        """Emit a batch normalization that is not a prologue."""
        in_, out = self.plan.slice_of(node.source()), self.plan.slice_of(node)
        bn_scale, bn_shift = batch_norm_affine(self.graph, node)
        scale, offset = self.quantization.get(in_)
        relu = node.op == "_contrib_BatchNormWithReLU"
        if id(node) in self.with_zero:
            # fold_bn_relu has no byte for 0 where the ReLU's input is always positive.
            arrays = {"scale": scale * bn_scale, "shift": offset * bn_scale + bn_shift}
            self._requantize(node, arrays, {"slope": 0 if relu else 1}, in_)
            return
        xor_mask, zero_point, scale, offset = fold_bn_relu(bn_scale, bn_shift, scale, offset, relu)
        words = {"flip": self._add_bytes(xor_mask), "zero": self._add_bytes(zero_point)}
        self._step("affine", in_=in_, out=out, **words)
        self.quantization.set(out, scale, offset)

    def _requantize(
        self, node: Node, arrays: dict[str, np.ndarray], act: dict[str, Any], *inputs: ChannelSlice
    ) -> None:
        """Emit a copy that computes in floats and quantizes its output again."""
        out, add = self.plan.slice_of(node), inputs[1] if len(inputs) > 1 else None
        scale, offset = self._calibrate(node, act.get("slope") == 0)
        words = self._add_arrays(**arrays, out_scale=1 / scale, out_shift=-offset / scale)
        self._step("copy", in_=inputs[0], out=out, add=add, **act, **words)

    def _pooling(self, node: Node, **words: Any) -> None:
        in_, out = self.plan.slice_of(node.source()), self.plan.slice_of(node)
        if id(node) in self.in_float:
            super()._pooling(node, **self._dequantization(in_))
            return
        is_mean = node.attrs.get("pool_type") == "avg"
        padded = any(node.pair("pad", 0)) and node.flag("count_include_pad", True)
        if is_mean and (padded or np.prod(node.pair("kernel")) > MAX_AVERAGED):
            raise ValueError(
                "target='native_int8' has no step for an average with padding or of more than "
                f"{MAX_AVERAGED} pixels (node {node.name}): use target='native'."
            )
        super()._pooling(node)
        self.quantization.set(out, *self.quantization.get(in_))

    def _copy(self, source: ChannelSlice, target: ChannelSlice) -> None:
        super()._copy(source, target)
        self.quantization.set(target, *self.quantization.get(source))

    def _addition(self, node: Node) -> None:
        """Emit an addition that no convolution computes."""
        first, second = (self.plan.slice_of(source) for source, _ in node.inputs)
        (scale, offset), (other, other_offset) = map(self.quantization.get, (first, second))
        arrays = {"scale": scale, "shift": offset + other_offset, "add_scale": other}
        self._requantize(node, arrays, {"slope": 1}, first, second)

    def _activation(self, node: Node) -> None:
        """Emit an activation that no convolution computes."""
        in_ = self.plan.slice_of(node.source())
        scale, offset = self.quantization.get(in_)
        self._requantize(node, {"scale": scale, "shift": offset}, activation_words(node), in_)
