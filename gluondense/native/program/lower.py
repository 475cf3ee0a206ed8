# SPDX-License-Identifier: Apache-2.0
"""Lowering of a graph to a program: steps over feature maps, and an array of packed weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mxnet as mx
import numpy as np

from ...graph.inference_passes import batch_norm_affine
from ...graph.ir import Graph, Node, Params
from ..build import OPERATOR
from .fusion import Fusion, is_depthwise
from .memory_plan import ChannelSlice, MemoryPlan
from .operators import check_operators, count_channels, is_ceil, is_gelu, negative_slope
from .packing import pack_depthwise_filters, pack_filters
from .patterns import fuse_patterns

FORMAT = 1
FLOATS = "gluondense_weights"  # name of the array of floats
ALIGNMENT = 16  # floats of a cache line


def to_program(graph: Graph, bf16: bool = False) -> tuple[str, Params]:
    """Lower a graph to one native operator; return the JSON of the operator's graph and its array.

    Parameters
    ----------
    graph
        A graph after the passes of :mod:`gluondense.graph.inference_passes`.
    bf16
        Whether convolutions multiply in bfloat16 on processors that can.

    Raises
    ------
    ValueError
        If an operator has no step.
    """
    program, floats = Lowering(graph, bf16).lower()
    return single_operator(graph, program, {FLOATS: floats})


def single_operator(graph: Graph, program: str, params: Params) -> tuple[str, Params]:
    """Return the JSON of a graph of one operator that runs a program, and its arrays.

    The result has the input and the outputs of ``graph``. The arrays in ``params`` are in the order
    of the operator's inputs.
    """
    names = (node.name for node in graph.nodes() if node.op == "null")
    (image,) = (name for name in names if name not in graph.params)
    inputs = [(Node("null", name), 0) for name in (image, *params)]
    operator = Node(OPERATOR, graph.heads[0][0].name, {"program": program}, inputs)
    single = Graph(mx.sym.var(image), params)
    single.heads = [(operator, index) for index in range(len(graph.heads))]
    return single.to_json(), single.params


class Lowering(Fusion):
    """Lowers a graph to a program.

    Operators are fused first. Each tensor is then assigned a slice of a map, and each operator that
    is left becomes a step. The arguments are those of :func:`to_program`.
    """

    def __init__(self, graph: Graph, bf16: bool = False) -> None:
        fuse_patterns(graph)
        check_operators(graph)
        super().__init__(graph)
        self.bf16 = bf16
        self.channels = count_channels(graph)
        self.steps: list[str] = []
        self.floats: list[np.ndarray] = []
        self.float_count = 0
        self.plan = MemoryPlan(self.operators, self.channels, self.fused)

    def lower(self) -> tuple[str, np.ndarray]:
        """Return the program's text and its floats."""
        self._emit()
        lines = [self._header(), *map(str, self.plan.maps), *self.steps]
        return "\n".join(lines) + "\n", np.concatenate(self.floats)

    def _header(self) -> str:
        return f"gluondense format={FORMAT} blob={self.float_count}{' bf16=2' if self.bf16 else ''}"

    def _emit(self) -> None:
        for node in self.graph.nodes():
            if node.op == "null" and node.name not in self.graph.params:
                self._load(node)
        for node in self.operators:
            if id(node) not in self.fused:
                self._emit_node(node)
        for index, (node, _) in enumerate(self.graph.heads):
            self._store(node, index)

    def _emit_node(self, node: Node) -> None:
        if node.op in EMIT:  # otherwise the output is a slice of the input
            getattr(self, EMIT[node.op])(node)

    def _image(self, node: Node) -> Node:
        """Return the input of a convolution or pooling, in front of its prologue."""
        norm = self.prologue.get(id(node))
        return node.source() if norm is None else norm.source()

    def _input(self, node: Node, pad: int = 0) -> ChannelSlice:
        """Return the slice from which a step reads a node's output, with that much padding."""
        part = self.plan.slice_of(node)
        entry = self.plan.maps[part.map]
        entry.pad = max(entry.pad, pad)
        return part

    def _output(self, node: Node) -> ChannelSlice:
        """Return the slice into which a step writes a node's output."""
        return self.plan.slice_of(node)

    def _step(self, kind: str, **words: Any) -> None:
        """Add a step; ``in_`` is the word ``in``, and None leaves a word out."""
        texts = (f"{key.rstrip('_')}={_text(v)}" for key, v in words.items() if v is not None)
        self.steps.append(" ".join([kind, *texts]))

    def _add_floats(self, array: np.ndarray) -> int:
        """Append to the program's floats; return the offset."""
        offset = self.float_count
        flat = np.ascontiguousarray(array, dtype="float32").ravel()
        self.floats.append(np.pad(flat, (0, -flat.size % ALIGNMENT)))
        self.float_count += self.floats[-1].size
        return offset

    def _load(self, node: Node) -> None:
        self._step("load", out=self.plan.slice_of(node))

    def _store(self, node: Node, index: int, **words: Any) -> None:
        flat = int(node.op in ("FullyConnected", "Flatten"))
        self._step("store", in_=self.plan.slice_of(node), output=index, flat=flat, **words)

    def _convolution(self, node: Node) -> None:
        """Emit a convolution or dense layer with what is fused into it."""
        weight = self.graph.array(node, 1)
        weight = weight.reshape(weight.shape + (1,) * (4 - weight.ndim))
        has_bias = len(node.inputs) > 2
        bias = self.graph.array(node, 2) if has_bias else np.zeros(len(weight), "float32")
        kind, words = "conv", dict[str, Any]()
        norm = self.prologue.get(id(node))
        if norm is not None and norm.op == "layer_norm":
            words["eps"] = self._eps(norm)
            weight, bias = self._fold_layer_norm(norm, weight, bias)
        elif norm is not None:
            scale, shift = map(self._add_floats, batch_norm_affine(self.graph, norm))
            words.update(scale=scale, shift=shift)
        if is_depthwise(self.graph, node):
            kind, (filters, biases) = "depthwise", pack_depthwise_filters(weight, bias)
        else:
            panels, (filters, biases) = pack_filters(weight, bias, node.groups)
            words.update(panels, gelu=1 if id(node) in self.gelu else None)
        residual = self.residual.get(id(node))
        self._step(
            kind,
            in_=self._input(self._image(node), max(node.pair("pad", 0))),
            out=self._output(node),
            add=None if residual is None else self._input(residual),
            kernel=weight.shape[2:],
            stride=node.pair("stride"),
            pad=node.pair("pad", 0),
            slope=self.slope.get(id(node), 1),
            add_last=self._adds_last(node),
            weight=self._add_floats(filters),
            bias=self._add_floats(biases),
            **words,
        )

    def _adds_last(self, node: Node) -> int | None:
        """Return the word ``add_last`` of a convolution."""
        return 1 if id(node) in self.add_last else None

    def _eps(self, norm: Node) -> float:
        return float(norm.attrs.get("eps", 1e-5))

    def _fold_layer_norm(
        self, norm: Node, weight: np.ndarray, bias: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fold the scale and shift of a layer normalization into the 1x1 filters behind it."""
        scale, shift = (self.graph.array(norm, i).astype("float64") for i in (1, 2))
        return weight * scale[:, None, None], bias + weight[:, :, 0, 0] @ shift

    def _layer_norm(self, node: Node) -> None:
        """Emit a layer normalization of channels that is not a prologue."""
        scale, shift = (self._add_floats(self.graph.array(node, i)) for i in (1, 2))
        in_, out = self._input(node.source()), self._output(node)
        self._step("layer_norm", in_=in_, out=out, eps=self._eps(node), scale=scale, shift=shift)

    def _product(self, node: Node) -> None:
        """Emit a multiplication by a number for each channel, computed or constant."""
        in_, out, factor = self._input(node.source()), self._output(node), node.source(1)
        if factor.name not in self.graph.params:
            self._step("gate", in_=in_, gate=self._input(factor), out=out)
            return
        factors = self.graph.array(node, 1)
        scale, shift = map(self._add_floats, (factors, np.zeros_like(factors)))
        self._step("affine", in_=in_, out=out, scale=scale, shift=shift, slope=1)

    def _normalization(self, node: Node) -> None:
        """Emit a batch normalization that is not a prologue."""
        scale, shift = map(self._add_floats, batch_norm_affine(self.graph, node))
        slope = 0 if node.op == "_contrib_BatchNormWithReLU" else 1
        in_, out = self._input(node.source()), self._output(node)
        self._step("affine", in_=in_, out=out, scale=scale, shift=shift, slope=slope)

    def _pooling(self, node: Node) -> None:
        is_max = int(node.attrs.get("pool_type", "max") == "max")
        if node.flag("global_pool"):
            self._global_pooling(node, max=is_max)
            return
        in_, out = self._input(node.source()), self._output(node)
        window = {key: node.pair(key, int(key != "pad")) for key in ("kernel", "stride", "pad")}
        count_pad = int(node.flag("count_include_pad", True))
        ceil = 1 if is_ceil(node) else None
        self._step("pool", in_=in_, out=out, **window, max=is_max, whole=count_pad, ceil=ceil)

    def _global_pooling(self, node: Node, **words: Any) -> None:
        in_, out = self.plan.slice_of(node.source()), self.plan.slice_of(node)
        self._step("global", in_=in_, out=out, **words)

    def _concatenation(self, node: Node) -> None:
        for part, target in self._copied_parts(node):
            self._copy(part, target)

    def _copied_parts(self, concat: Node) -> Iterator[tuple[ChannelSlice, ChannelSlice]]:
        """Yield the inputs that are not placed in the output, and their slices of it."""
        whole, channel = self.plan.slice_of(concat), 0
        for index, (source, _) in enumerate(concat.inputs):
            part = self.plan.slice_of(source)
            if index in self.plan.copies[id(concat)]:
                yield part, whole.part(channel, part.channels)
            channel += part.channels

    def _copy(self, source: ChannelSlice, target: ChannelSlice) -> None:
        self._step("copy", in_=source, out=target)

    def _addition(self, node: Node) -> None:
        """Emit an addition that no convolution computes."""
        first, second = (self._input(source) for source, _ in node.inputs)
        self._step("copy", in_=first, add=second, out=self._output(node))

    def _resampling(self, node: Node) -> None:
        """Emit a repetition of pixels, which may be cut, or a move of pixels to channels."""
        in_, out = self._input(node.source()), self._output(node)
        like = self._input(node.source(1)) if node.op == "upsample_like" else None
        factors = {"up": node.value("scale"), "down": node.value("block_size")}
        self._step("resample", in_=in_, like=like, out=out, **factors)

    def _combination(self, node: Node) -> None:
        """Emit the maximum of two maps, or one gated by another."""
        first, second = (self._input(source) for source, _ in node.inputs)
        gate = 1 if node.op == "sigmoid_gate" else None
        self._step("combine", in_=first, with_=second, out=self._output(node), gate=gate)

    def _activation(self, node: Node) -> None:
        """Emit an activation that no convolution computes."""
        in_, out = self._input(node.source()), self._output(node)
        self._step("copy", in_=in_, out=out, **activation_words(node))


# The method of Lowering for each operator.
EMIT = {
    "Activation": "_activation",
    "BatchNorm": "_normalization",
    "Concat": "_concatenation",
    "Convolution": "_convolution",
    "FullyConnected": "_convolution",
    "LeakyReLU": "_activation",
    "Pooling": "_pooling",
    "UpSampling": "_resampling",
    "_contrib_BatchNormWithReLU": "_normalization",
    "broadcast_maximum": "_combination",
    "broadcast_mul": "_product",
    "layer_norm": "_layer_norm",
    "elemwise_add": "_addition",
    "hard_sigmoid": "_activation",
    "sigmoid_gate": "_combination",
    "silu": "_activation",
    "space_to_depth": "_resampling",
    "upsample_like": "_resampling",
}


def activation_words(node: Node) -> dict[str, Any]:
    """Return the words of a step that computes an activation."""
    if node.op in ("silu", "hard_sigmoid"):
        return {node.op: 1}
    return {"gelu": 1} if is_gelu(node) else {"slope": negative_slope(node)}


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return repr(value) if isinstance(value, float) else str(value)
