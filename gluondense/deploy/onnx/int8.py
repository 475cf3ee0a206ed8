# SPDX-License-Identifier: Apache-2.0
"""Target "onnx_int8": ONNX models with int8 layers in QDQ format.

Activations are uint8 with a zero point, weights int8 with a scale per filter. A runtime fuses each
layer with the QuantizeLinear and DequantizeLinear pairs around it: ONNX Runtime to QLinearConv,
OpenVINO and TensorRT to their own kernels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...graph.ir import Graph, Lowered, Node
from ...graph.ranges import Range, as_block, collect_ranges, tensor_names
from ...graph.trace import INPUT
from ..outputs import all_outputs
from ..quantization.calibration import Calibration
from ..quantization.equalize import convolve_batch_norms, equalize_channels, tensor_name
from ..quantization.sensitivity import select_excluded
from .block import OnnxBlock
from .convert import convert, open_shape
from .operators import Writer

Limits = dict[str, "tuple[float, float]"]

LAYERS = ("Convolution", "FullyConnected")
INT8_OPERATORS = ("Concat", "LeakyReLU", "Pooling", "elemwise_add", "slice_axis")
# Operators that do not increase any value: the output has the scale of the input.
COPIES = ("Pooling", "slice_axis")
# A bias is added as int32; half of its range is left to the products.
_MAX_BIAS = 2**30


@dataclasses.dataclass(frozen=True)
class QuantParams:
    """Scale and zero point of a uint8 tensor: ``value = (q - zero_point) * scale``."""

    scale: np.float32
    zero_point: np.uint8

    @classmethod
    def from_range(cls, low: float, high: float) -> QuantParams:
        """Return the parameters that represent a range, which must contain zero.

        Examples
        --------
        >>> QuantParams.from_range(-1.0, 1.55)
        QuantParams(scale=0.01, zero_point=100)
        """
        scale = np.float32((high - low) / 255 if high > low else 1)
        return cls(scale, np.uint8(round(-low / float(scale))))

    @property
    def limits(self) -> tuple[float, float]:
        """The smallest and largest value that can be represented."""
        zero, scale = int(self.zero_point), float(self.scale)
        return -zero * scale, (255 - zero) * scale


def quantize_onnx(graph: Graph, calibration: Calibration) -> Lowered:
    """Lower a graph to an ONNX model with int8 layers.

    Arguments and errors are those of :func:`..quantization.onednn_int8.quantize_onednn`; a
    ValueError is raised for unsupported operators, too.
    """
    graph.rename_duplicates()
    batches = calibration.batches()
    convolve_batch_norms(graph, calibration.images.shape)
    expected = all_outputs(as_block(*graph.to_symbol()), batches)
    ranges = _equalized_ranges(graph, calibration, batches)
    layers = [node.name for node in graph.operators() if node.op in LAYERS]

    shape = calibration.images.shape

    def model(excluded: set[str]) -> Any:
        return convert(_QdqWriter(graph, ranges, excluded), {INPUT: open_shape(shape)})

    def build(excluded: set[str]) -> OnnxBlock:
        return OnnxBlock(model(excluded).SerializeToString())

    excluded, record = select_excluded(layers, calibration, build, expected)
    return Lowered(model(excluded), {}, record)


def _equalized_ranges(
    graph: Graph, calibration: Calibration, batches: Sequence[np.ndarray]
) -> Limits:
    """Equalize the channels of a graph and return the ranges of its tensors."""

    def collect(method: str) -> dict[str, Range]:
        symbol, params = graph.to_symbol()
        names = tensor_names(symbol, params)
        return collect_ranges(symbol, params, names, batches, method, calibration.percentile)

    exact = equalize_channels(graph, collect("minmax"))
    found = collect(calibration.method)
    return {**{name: (range.low, range.high) for name, range in found.items()}, **exact}


def _has_int8_kernel(node: Node) -> bool:
    """Return whether runtimes have a kernel from int8 to int8."""
    return node.op in INT8_OPERATORS or node.is_like("Activation", act_type="relu")


class _QdqWriter(Writer):
    """Writes a graph with QuantizeLinear and DequantizeLinear pairs around its layers.

    ``ranges`` are the smallest and largest value of each tensor; ``excluded`` are the names of the
    layers that stay in float32.
    """

    def __init__(self, graph: Graph, ranges: Limits, excluded: set[str]) -> None:
        super().__init__(graph)
        self.ranges, self.excluded = ranges, excluded
        self.readers = graph.readers()
        self.heads = {id(node) for node, _ in graph.heads}
        layers = [node for node in graph.operators() if self._is_int8(node)]
        self.quantized: dict[int, QuantParams] = {}
        self._exact: dict[int, str] = {}  # the float tensor before the pair
        read = {id(layer.source()) for layer in layers}
        for node in graph.nodes():
            if id(node) in read or self._gives_int8(node):
                self.quantized[id(node)] = self._params_of(node)
        # The layers of the variables of weights and biases.
        self.weights = {id(layer.source(1)): layer for layer in layers}
        self.biases = {id(node.source(2)): node for node in layers if len(node.inputs) > 2}

    def _is_int8(self, node: Node) -> bool:
        return node.op in LAYERS and node.name not in self.excluded

    def _is_excluded(self, node: Node) -> bool:
        return node.op in LAYERS and node.name in self.excluded

    def _gives_int8(self, node: Node) -> bool:
        if self._before_relu(node) or (node.op == "FullyConnected" and id(node) in self.heads):
            return False
        return not node.is_like("Pooling", global_pool="True") and self._could_give_int8(node)

    def _could_give_int8(self, node: Node) -> bool:
        if _has_int8_kernel(node):
            return all(self._has_int8(source) for source, _ in node.inputs)
        return self._is_int8(node)

    def _has_int8(self, node: Node) -> bool:
        before_relu = self._before_relu(node) and self._could_give_int8(node)
        return before_relu or id(node) in self.quantized

    def _before_relu(self, node: Node) -> bool:
        """Return whether only a ReLU reads a node; quantization to uint8 includes the ReLU."""
        readers = self.readers[id(node)]
        relu = len(readers) == 1 and readers[0].is_like("Activation", act_type="relu")
        return relu and id(node) not in self.heads

    def _params_of(self, node: Node) -> QuantParams:
        known = [self.quantized[id(n)] for n, _ in node.inputs if id(n) in self.quantized]
        if node.op in COPIES and known:
            return known[0]
        if node.op == "Concat" and known and len(known) == len(node.inputs):
            lows, highs = zip(*(params.limits for params in known))
            same = len(set(known)) == 1
            return known[0] if same else QuantParams.from_range(min(lows), max(highs))
        return QuantParams.from_range(*self.ranges[tensor_name(node)])

    def write(self, node: Node) -> None:
        """Write a node, and a QDQ pair after it if its output is quantized."""
        if id(node) in self.weights:
            self._names[id(node)] = self._weight(node, self.weights[id(node)])
        elif id(node) in self.biases:
            self._names[id(node)] = self._bias(node, self.biases[id(node)])
        elif self._is_excluded(node):
            self._write_excluded(node)
        elif self._is_redundant_relu(node):
            self._names[id(node)] = self.name_of(node.inputs[0])
        else:
            super().write(node)
        if id(node) in self.quantized:
            self._exact[id(node)] = self._names[id(node)]
            self._names[id(node)] = self._quantize_dequantize(node, self.quantized[id(node)])

    def _write_excluded(self, node: Node) -> None:
        # Between two pairs ONNX Runtime would quantize the layer nevertheless.
        source = id(node.source())
        quantized = self._names[source]
        self._names[source] = self._exact.get(source, quantized)
        super().write(node)
        self._names[source] = quantized

    def _is_redundant_relu(self, node: Node) -> bool:
        """Return whether this is a ReLU that quantization to uint8 includes, for all readers."""
        relu = node.is_like("Activation", act_type="relu") and id(node) in self.quantized
        return relu and not any(map(self._is_excluded, self.readers[id(node)]))

    def _quantize_dequantize(self, node: Node, params: QuantParams) -> str:
        scale = self.constant(f"{node.name}_scale", params.scale)
        zero = self.constant(f"{node.name}_zero", params.zero_point)
        q = self.add("QuantizeLinear", f"{node.name}_bytes", self._names[id(node)], scale, zero)
        return self.add("DequantizeLinear", f"{node.name}_values", q, scale, zero)

    def _scales(self, layer: Node) -> np.ndarray:
        """Return the scale of each filter."""
        weight = self.graph.array(layer, 1)
        scales = np.abs(weight).reshape(len(weight), -1).max(axis=1) / 127
        if len(layer.inputs) > 2:
            # The scale of a filter of small weights is raised until its bias fits into int32.
            x = self.quantized[id(layer.source())].scale
            bias = np.abs(self.graph.array(layer, 2))
            scales = np.maximum(scales, bias / x / _MAX_BIAS)
        return np.where(scales > 0, scales, 1).astype(np.float32)

    def _weight(self, node: Node, layer: Node) -> str:
        weight, scales = self.graph.array(layer, 1), self._scales(layer)
        rounded = np.rint((weight.T / scales).T).clip(-127, 127).astype(np.int8)
        return self._dequantized(node.name, rounded, scales)

    def _bias(self, node: Node, layer: Node) -> str:
        scales = self._scales(layer) * self.quantized[id(layer.source())].scale
        rounded = np.rint(self.graph.array(layer, 2).astype("float64") / scales).astype(np.int32)
        return self._dequantized(node.name, rounded, scales)

    def _dequantized(self, name: str, array: np.ndarray, scales: np.ndarray) -> str:
        q = self.constant(f"{name}_bytes", array)
        scale = self.constant(f"{name}_scales", scales)
        zero = self.constant(f"{name}_zeros", np.zeros(len(scales), array.dtype))
        return self.add("DequantizeLinear", name, q, scale, zero, axis=0)
