"""Target "onnx_int8": ONNX models whose layers compute in 8 bits (QDQ).

Tensors are unsigned bytes with a zero point, weights signed ones with a scale for each filter. A
reader fuses each layer with the pair around it: ONNX Runtime into QLinearConv, OpenVINO and
TensorRT into kernels of theirs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...graph.ir import Graph, Lowered, Node, free_name
from ...graph.ranges import as_block, collect_ranges
from ..quantization.calibration import Calibration
from ..quantization.equalize import convolve_batch_norms, spread_channels, tensor
from ..quantization.onednn_int8 import Harm, choose_kept, run_block, tensors_of
from .block import OnnxBlock
from .convert import assemble, open_shape
from .operators import Writer

LAYERS = ("Convolution", "FullyConnected")
BYTE_OPERATORS = ("Concat", "LeakyReLU", "Pooling", "elemwise_add", "slice_axis")
# The output has the scale of the input: no value becomes larger.
COPIES = ("Pooling", "slice_axis")
# A bias is added as 32 bits; half of them are left to the products.
_MAX_BIAS = 2**30


@dataclasses.dataclass(frozen=True)
class Bytes:
    """How 8 bits without sign stand for the values between two: ``(byte - zero) * scale``."""

    scale: np.float32
    zero: np.uint8

    @classmethod
    def between(cls, low: float, high: float) -> Bytes:
        """Spread 8 bits over the values, among which is zero.

        Examples
        --------
        >>> Bytes.between(-1.0, 1.55)
        Bytes(scale=0.01, zero=100)
        """
        scale = np.float32((high - low) / 255 if high > low else 1)
        return cls(scale, np.uint8(round(-low / float(scale))))


def onnx_int8(graph: Graph, calibration: Calibration) -> Lowered:
    """Return an ONNX model of layers in 8 bits.

    Parameters
    ----------
    graph
        The float32 network, optimized, but its normalizations not fused with a ReLU.
    calibration
        Its images are read.

    Raises
    ------
    ValueError
        If no layer has a name that is to be kept, or ONNX can't say what an operator does.
    """
    taken: set[str] = set()
    for node in graph.operators():
        node.name = free_name(node.name, taken)
    batches = calibration.batches()
    convolve_batch_norms(graph, calibration.images.shape)
    block = as_block(*graph.to_symbol())
    expected = run_block(block, batches)
    ranges, exact = _ranges(graph, calibration, batches)
    layers = [node.name for node in graph.operators() if node.op in LAYERS]

    def model(kept: set[str]) -> Any:
        writer = _Writer(graph, {**ranges, **exact}, kept)
        for node in graph.nodes():
            writer.write(node)
        return assemble(writer, open_shape(calibration.images.shape))

    def harm(kept: set[str], count: int | None = None) -> Harm:
        outputs = run_block(OnnxBlock(model(kept).SerializeToString()), batches, count)
        return Harm.of(outputs, [array[: len(outputs[0])] for array in expected])

    kept, found = choose_kept(layers, calibration, harm)
    quantization = {
        "method": calibration.method,
        "images": len(calibration.images),
        "layers": len(layers),
        "kept": [name for name in layers if name in kept],
        **dataclasses.asdict(found),
    }
    return Lowered(model(kept), {}, quantization)


def _ranges(
    graph: Graph, calibration: Calibration, batches: Sequence[np.ndarray]
) -> tuple[dict[str, tuple[float, float]], dict[str, tuple[float, float]]]:
    """Return the tensors' ranges, and those that follow from the channels' having been spread."""
    symbol, params = graph.to_symbol()
    before = collect_ranges(symbol, params, tensors_of(symbol, params), batches, "minmax")
    exact = spread_channels(graph, before)
    symbol, params = graph.to_symbol()
    how = calibration.method, calibration.percentile
    found = collect_ranges(symbol, params, tensors_of(symbol, params), batches, *how)
    return {name: (range.low, range.high) for name, range in found.items()}, exact


def _keeps_bytes(node: Node) -> bool:
    """Whether readers have a kernel that makes bytes of bytes."""
    return node.op in BYTE_OPERATORS or node.is_like("Activation", act_type="relu")


class _Writer(Writer):
    """Writes a graph with pairs of QuantizeLinear and DequantizeLinear around its layers.

    Parameters
    ----------
    graph
        The network's.
    ranges
        Lowest and highest value by tensor.
    kept
        Names of the layers that stay in float.
    """

    def __init__(
        self, graph: Graph, ranges: dict[str, tuple[float, float]], kept: set[str]
    ) -> None:
        super().__init__(graph)
        self.ranges, self.kept = ranges, kept
        self.readers = graph.readers()
        self.heads = {id(node) for node, _ in graph.heads}
        layers = [node for node in graph.operators() if self._in_bytes(node)]
        self.bytes: dict[int, Bytes] = {}
        self._exact: dict[int, str] = {}  # what stands in front of the pair
        read = {id(layer.source()) for layer in layers}
        for node in graph.nodes():
            if id(node) in read or self._gives_bytes(node):
                self.bytes[id(node)] = self._bytes_of(node)
        # Weights and biases by their variables.
        self.weights = {id(layer.source(1)): layer for layer in layers}
        self.biases = {id(node.source(2)): node for node in layers if len(node.inputs) > 2}

    def _in_bytes(self, node: Node) -> bool:
        return node.op in LAYERS and node.name not in self.kept

    def _gives_bytes(self, node: Node) -> bool:
        if self._before_relu(node) or (node.op == "FullyConnected" and id(node) in self.heads):
            return False
        if _keeps_bytes(node):
            whole = node.op == "Pooling" and node.is_like("Pooling", global_pool="True")
            return not whole and all(self._has_bytes(source) for source, _ in node.inputs)
        return self._in_bytes(node)

    def _has_bytes(self, node: Node) -> bool:
        return id(node) in self.bytes or (self._before_relu(node) and self._could_give(node))

    def _could_give(self, node: Node) -> bool:
        if _keeps_bytes(node):
            return all(self._has_bytes(source) for source, _ in node.inputs)
        return self._in_bytes(node)

    def _before_relu(self, node: Node) -> bool:
        """Whether only a ReLU reads this, which the rounding to bytes without sign does too."""
        readers = self.readers[id(node)]
        relu = len(readers) == 1 and readers[0].is_like("Activation", act_type="relu")
        return relu and id(node) not in self.heads

    def _bytes_of(self, node: Node) -> Bytes:
        sources = [self.bytes[id(source)] for source, _ in node.inputs if id(source) in self.bytes]
        if node.op in COPIES and sources:
            return sources[0]
        if node.op == "Concat" and sources and len(sources) == len(node.inputs):
            lows = [-int(b.zero) * float(b.scale) for b in sources]
            highs = [(255 - int(b.zero)) * float(b.scale) for b in sources]
            return sources[0] if len(set(sources)) == 1 else Bytes.between(min(lows), max(highs))
        return Bytes.between(*self.ranges[tensor(node)])

    def write(self, node: Node) -> None:
        """Write a node, with its output as bytes and back where it has them."""
        if id(node) in self.weights:
            self._names[id(node)] = self._weight(node, self.weights[id(node)])
        elif id(node) in self.biases:
            self._names[id(node)] = self._bias(node, self.biases[id(node)])
        elif self._is_kept(node):
            self._write_kept(node)
        elif self._only_rounds(node):
            self._names[id(node)] = self.name_of(node.inputs[0])
        else:
            super().write(node)
        if id(node) in self.bytes:
            self._exact[id(node)] = self._names[id(node)]
            self._names[id(node)] = self._through(node, self.bytes[id(node)])

    def _is_kept(self, node: Node) -> bool:
        return node.op in LAYERS and node.name in self.kept

    def _write_kept(self, node: Node) -> None:
        # Between two pairs ONNX Runtime would make bytes of its weights all the same.
        source = id(node.source())
        rounded = self._names[source]
        self._names[source] = self._exact.get(source, rounded)
        super().write(node)
        self._names[source] = rounded

    def _only_rounds(self, node: Node) -> bool:
        """Whether this is a ReLU that the bytes' having no sign does too, for all its readers."""
        relu = node.is_like("Activation", act_type="relu") and id(node) in self.bytes
        return relu and not any(map(self._is_kept, self.readers[id(node)]))

    def _through(self, node: Node, as_bytes: Bytes) -> str:
        scale = self.constant(f"{node.name}_scale", as_bytes.scale)
        zero = self.constant(f"{node.name}_zero", as_bytes.zero)
        small = self.add("QuantizeLinear", f"{node.name}_bytes", self._names[id(node)], scale, zero)
        return self.add("DequantizeLinear", f"{node.name}_values", small, scale, zero)

    def _scales(self, layer: Node) -> np.ndarray:
        """Return the scale of each filter."""
        weight = self.graph.array(layer, 1)
        largest = np.abs(weight).reshape(len(weight), -1).max(axis=1) / 127
        if len(layer.inputs) > 2:
            # A filter next to nothing has a bias all the same.
            bias, x = np.abs(self.graph.array(layer, 2)), self.bytes[id(layer.source())].scale
            largest = np.maximum(largest, bias / x / _MAX_BIAS)
        return np.where(largest > 0, largest, 1).astype(np.float32)

    def _weight(self, node: Node, layer: Node) -> str:
        weight, scales = self.graph.array(layer, 1), self._scales(layer)
        rounded = np.rint((weight.T / scales).T).clip(-127, 127).astype(np.int8)
        return self._dequantized(node.name, rounded, scales)

    def _bias(self, node: Node, layer: Node) -> str:
        scales = self._scales(layer) * self.bytes[id(layer.source())].scale
        rounded = np.rint(self.graph.array(layer, 2).astype("float64") / scales).astype(np.int32)
        return self._dequantized(node.name, rounded, scales)

    def _dequantized(self, name: str, array: np.ndarray, scales: np.ndarray) -> str:
        small = self.constant(f"{name}_bytes", array)
        scale = self.constant(f"{name}_scales", scales)
        zero = self.constant(f"{name}_zeros", np.zeros(len(scales), array.dtype))
        return self.add("DequantizeLinear", name, small, scale, zero, axis=0)
