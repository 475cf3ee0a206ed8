# SPDX-License-Identifier: Apache-2.0
"""Lowering of a graph to a program over bytes, with a scale and an offset for each channel.

A byte q represents scale * q + offset. The batch normalization and ReLU in front of a convolution,
max(0, a x + b), are |a| * scale times max(0, q - zero_point), or the same of 255 - q where a is
negative. The factor is folded into the weights before they are quantized, which leaves a
subtraction. So all 256 values cover the range of each channel, however wide those of other channels
are, and nothing is rounded twice.

Any layer can stay in float32, see :mod:`gluondense.native.program.mixed_precision`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from ...graph.inference_passes import batch_norm_affine
from ...graph.ir import Graph, Node, Params
from ...graph.ranges import Range
from .channel_quantization import nodes_with_zero, quantize_range
from .lower import FLOATS, activation_words, single_operator
from .memory_plan import ChannelSlice
from .mixed_precision import MixedLowering, is_float_average
from .operators import COMBINED, RESAMPLED, negative_slope
from .packing import fold_bn_relu, pack_filters, pack_int8_filters, pack_lanes

BYTES = "gluondense_bytes"  # name of the array of bytes
VECTOR = 64  # kOverreadBytes: bytes that a kernel reads at once
NORMS = ("BatchNorm", "_contrib_BatchNormWithReLU")


def to_int8_program(
    graph: Graph, ranges: Mapping[str, Range], excluded: Collection[str] = ()
) -> tuple[str, Params]:
    """Lower a graph to one native operator that computes in int8.

    Parameters
    ----------
    graph
        A graph after the passes of :mod:`gluondense.graph.inference_passes`.
    ranges
        Calibrated ranges of the tensors that :meth:`Int8Lowering.tensors` lists.
    excluded
        Names of the layers that stay in float32, see :meth:`Int8Lowering.layers`.

    Returns
    -------
    graph, params
        As :func:`gluondense.native.program.lower.to_program`, with an array of bytes if any layer
        is in int8.

    Raises
    ------
    ValueError
        If an operator has no step.
    """
    program, floats, bytes_ = Int8Lowering(graph, ranges, excluded).lower_int8()
    arrays = {FLOATS: floats, BYTES: bytes_} if bytes_.size else {FLOATS: floats}
    return single_operator(graph, program, arrays)


class Int8Lowering(MixedLowering):
    """Lowers a graph to a program over bytes.

    The arguments are those of :func:`to_int8_program`. Without ``ranges``, it only lists the
    tensors and layers.
    """

    def __init__(
        self,
        graph: Graph,
        ranges: Mapping[str, Range] | None = None,
        excluded: Collection[str] = (),
    ) -> None:
        super().__init__(graph, excluded)
        # The last of the nodes that a step computes names the tensor that it writes.
        self.written = {id(self.plan.owner(node)): node for node in self.operators}
        self.ranges = ranges or {}
        convs = (node for node in self.operators if node.op == "Convolution")
        images = (self._image(node) for node in convs if any(node.pair("pad", 0)))
        padded = {self.plan.slice_of(image).map for image in images}
        self.with_zero = nodes_with_zero(self.plan, self.stored, padded)
        self.bytes: list[np.ndarray] = []
        self.byte_count = 0

    def tensors(self) -> list[str]:
        """Return the names of the tensors whose ranges are needed."""
        names = [node.name for node in self.stored if node.op == "null"]
        for node in self.operators:
            if id(node) in self.fused or id(node) in self.pooled:
                continue
            if node.op in ("Convolution", "elemwise_add", "Activation", "LeakyReLU", "silu"):
                names.append(f"{self.written[id(node)].name}_output")
            elif self._has_own_range(node):
                names.append(f"{node.name}_output")
        return names

    def _has_own_range(self, node: Node) -> bool:
        """Return whether a step computes values that no bytes of its input can represent."""
        norm = node.op in NORMS and id(node) in self.with_zero
        return norm or node.op in COMBINED or is_float_average(node)

    def lower_int8(self) -> tuple[str, np.ndarray, np.ndarray]:
        """Return the program's text, its floats and its bytes."""
        text, floats = self.lower()
        return text, floats, np.concatenate([*self.bytes, np.zeros(0, "int8")])

    def _header(self) -> str:
        return f"{super()._header()} bytes={self.byte_count}"

    def _emit(self) -> None:
        for node in self.stored:
            if self.plan.owner(node) is node and id(node) not in self.pooled:
                self._set_quantization(node)
        super()._emit()
        for index, entry in enumerate(self.plan.maps):
            if entry.is_u8 and entry.pad:
                zero = self.quantization.zero_points(index)
                if zero.any():
                    entry.pad_values = self._add_bytes(zero.clip(0, 255).astype("uint8"))

    def _add_bytes(self, array: np.ndarray) -> int:
        """Append to the program's bytes; return the offset."""
        offset = self.byte_count
        flat = array.view("int8").ravel()
        self.bytes.append(np.pad(flat, (0, -flat.size % VECTOR)))
        self.byte_count += self.bytes[-1].size
        return offset

    def _set_quantization(self, node: Node) -> None:
        """Set scale and offset of a node's output, of which the step may compute floats."""
        if node.op == "Concat":
            for part, target in self._copied_parts(node):
                self.quantization.set(target, *self.quantization.get(part))
        if node.op in ("Concat", "slice_axis"):
            return  # the others are those of the inputs
        out, is_norm = self.plan.slice_of(node), node.op in NORMS
        copies = node.op == "Pooling" or node.op in RESAMPLED
        if copies and not is_float_average(node):
            scale, offset = self.quantization.get(self.plan.slice_of(node.source()))
            times = node.value("block_size", 1) ** 2
            params = np.tile(scale, times), np.tile(offset, times)
        elif is_norm and id(node) not in self.with_zero:
            params = self._fold(node)[2:]
        else:
            image = node.op == "null"
            name = node.name if image else f"{self.written[id(node)].name}_output"
            zero = id(node) in self.with_zero or (not image and self._slope(node) == 0)
            params = quantize_range(self.ranges[name], zero)
        self.quantization.set(out, *params)

    def _slope(self, node: Node) -> float:
        """Return the slope of the activation that a step ends with; 1 for none."""
        if node.op in ("Activation", "LeakyReLU"):
            return negative_slope(node)
        if node.op in NORMS:
            return 0 if node.op == "_contrib_BatchNormWithReLU" else 1
        return 1 if id(node) in self.add_last else self.slope.get(id(node), 1)

    def _fold(self, node: Node) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return masks, zero points, scales and offsets of a normalization over bytes."""
        params = self.quantization.get(self.plan.slice_of(node.source()))
        return fold_bn_relu(*batch_norm_affine(self.graph, node), *params, self._slope(node) == 0)

    def _load(self, node: Node) -> None:
        """Emit the step that reads and quantizes the images."""
        out = self.plan.slice_of(node)
        words = self._quantize_words(out) if self._is_u8(out) else {}
        self._step("load", out=out, **words)

    def _store(self, node: Node, index: int, **words: Any) -> None:
        super()._store(node, index, **self._dequantization(self.plan.slice_of(node)))

    def _convolution(self, node: Node) -> None:
        """Emit a convolution with what is fused into it."""
        weight = self.graph.array(node, 1).astype("float64")
        bias = self.graph.array(node, 2) if len(node.inputs) > 2 else np.zeros(len(weight))
        image = self._input(self._image(node), max(node.pair("pad", 0)))
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
            words.update(add=self._input(residual), add_last=self._adds_last(node))
            arrays["add_scale"], residual_offset = self.quantization.get(words["add"])
            if add_last:
                last_offset = residual_offset
            else:
                bias = bias + residual_offset
        out_scale, offset = self.quantization.get(self.plan.slice_of(node))
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
        if id(node) in self.with_zero:
            # fold_bn_relu has no byte for 0 where the ReLU's input is always positive.
            bn_scale, bn_shift = batch_norm_affine(self.graph, node)
            scale, offset = self.quantization.get(in_)
            arrays = {"scale": scale * bn_scale, "shift": offset * bn_scale + bn_shift}
            self._requantize(node, arrays, {"slope": self._slope(node)}, in_)
            return
        xor_mask, zero_point, *_ = self._fold(node)
        words = {"flip": self._add_bytes(xor_mask), "zero": self._add_bytes(zero_point)}
        self._step("affine", in_=in_, out=out, **words)

    def _requantize(
        self, node: Node, arrays: dict[str, np.ndarray], act: dict[str, Any], *inputs: ChannelSlice
    ) -> None:
        """Emit a copy that computes in floats and quantizes its output again."""
        out, add = self.plan.slice_of(node), inputs[1] if len(inputs) > 1 else None
        scale, offset = self.quantization.get(out)
        words = self._add_arrays(**arrays, out_scale=1 / scale, out_shift=-offset / scale)
        self._step("copy", in_=inputs[0], out=out, add=add, **act, **words)

    def _global_pooling(self, node: Node, **words: Any) -> None:
        in_ = self.plan.slice_of(node.source())
        super()._global_pooling(node, **words, **self._dequantization(in_))

    def _copy(self, source: ChannelSlice, target: ChannelSlice) -> None:
        if self._is_u8(source) == self._is_u8(target):
            super()._copy(source, target)
        else:
            self._convert(source, target)

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
