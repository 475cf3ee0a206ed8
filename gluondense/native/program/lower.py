"""A graph as one operator's program: steps over maps, and a blob of packed weights."""

from __future__ import annotations

from typing import Any

import mxnet as mx
import numpy as np

from ...graph.inference_passes import batch_norm_affine
from ...graph.ir import Graph, Node, Params
from .. import OPERATOR
from .memory_plan import Layout, View
from .operators import check_operators, count_channels, is_flat, is_true, pair, slope_of
from .packing import pack_filters

FORMAT = 1
BLOB = "gluondense_weights"
LINE = 16  # floats of a cache line


def as_program(graph: Graph, bf16: bool = False) -> tuple[str, Params]:
    """Return a graph of the one operator that computes what a graph does, and its array.

    Parameters
    ----------
    graph
        After the passes of ``deploy.passes``.
    bf16
        Whether 1x1 convolutions may multiply in bfloat16, where the processor can.

    Raises
    ------
    ValueError
        If the graph has an operator that no step stands for.
    """
    program, blob = Lowering(graph, bf16).lower()
    return one_operator(graph, program, {BLOB: blob})


def one_operator(graph: Graph, program: str, params: Params) -> tuple[str, Params]:
    """Return a graph of the operator that runs a program in place of a graph, and its arrays."""
    names = (node.name for node in graph.nodes() if node.op == "null")
    (image,) = (name for name in names if name not in graph.params)
    inputs = [(Node("null", name), 0) for name in (image, *params)]
    operator = Node(OPERATOR, graph.heads[0][0].name, {"program": program}, inputs)
    whole = Graph(mx.sym.var(image), params)
    whole.heads = [(operator, index) for index in range(len(graph.heads))]
    return whole.to_json(), whole.params


class Lowering:
    """A program under construction.

    First operators are fused: what an ``absorbed`` one gives, another computes in passing. Then
    each tensor gets its place, then each operator that is left becomes a step.

    Parameters
    ----------
    graph, bf16
        As for :func:`as_program`.

    Raises
    ------
    ValueError
        If the graph has an operator that no step stands for.
    """

    def __init__(self, graph: Graph, bf16: bool = False) -> None:
        check_operators(graph)
        self.bf16 = bf16
        self.graph, self.operators = graph, list(graph.operators())
        self.readers, self.uses = graph.readers(), graph.uses()
        self.channels = count_channels(graph)
        self.absorbed: dict[int, Node] = {}
        self.skipped: set[int] = set()  # what only a prologue computes, and nothing holds
        self.prologue: dict[int, Node] = {}  # normalization in front of a convolution
        self.addend: dict[int, Node] = {}  # what is added to a convolution's output
        self.slope: dict[int, float] = {}  # of the activation behind, below 0
        self.steps: list[str] = []
        self.blob: list[np.ndarray] = []
        self.size = 0
        for node in self.operators:
            self._fuse(node)
        self.operators = [node for node in self.operators if id(node) not in self.skipped]
        self.layout = Layout(self.operators, self.channels, self.absorbed)
        for node in self.operators:
            if node.op == "Convolution":
                source = self.layout.maps[self.layout.view(self._image(node)).map]
                source.border = max(source.border, *pair(node, "pad", 0))

    def lower(self) -> tuple[str, np.ndarray]:
        """Return the program and the blob."""
        self._emit()
        lines = [self._head(), *map(str, self.layout.maps), *self.steps]
        return "\n".join(lines) + "\n", np.concatenate(self.blob)

    def _head(self) -> str:
        return f"gluondense format={FORMAT} blob={self.size}{' bf16=1' if self.bf16 else ''}"

    def _emit(self) -> None:
        for node in self.graph.nodes():
            if node.op == "null" and node.name not in self.graph.params:
                self.image(node)
        for node in self.operators:
            if id(node) not in self.absorbed:
                self._emit_node(node)
        for index, (node, _) in enumerate(self.graph.heads):
            self.output(node, index)

    def _emit_node(self, node: Node) -> None:
        getattr(self, EMIT[node.op])(node)

    def _fuse(self, node: Node) -> None:
        if node.op == "Flatten":
            self.absorbed[id(node)] = node.source()  # of one pixel
        elif node.op in ("Activation", "LeakyReLU"):
            conv = self._alone(node.source())
            if conv is not None and id(conv) not in self.slope:
                self.absorbed[id(node)], self.slope[id(conv)] = node.source(), slope_of(node)
        elif node.op == "elemwise_add":
            # The later one of the two adds the earlier one to its sums.
            order = [self._position(self._owner(source)) for source, _ in node.inputs]
            late = order[1] > order[0]
            conv = self._alone(node.source(late))
            if conv is not None and not {id(conv)} & (self.slope.keys() | self.addend.keys()):
                self.absorbed[id(node)], self.addend[id(conv)] = conv, node.source(not late)
        elif node.op == "Convolution" and pair(node, "kernel") == (1, 1):
            norm, whole = node.source(), node.attrs.get("num_group", "1") == "1"
            whole = whole and not any(pair(node, "pad", 0))
            if norm.op == "_contrib_BatchNormWithReLU" and self.uses[id(norm)] == 1 and whole:
                self.prologue[id(node)] = norm
                self.skipped.add(id(norm))

    def _alone(self, node: Node) -> Node | None:
        """Return the convolution that writes a tensor which nothing else reads."""
        while id(node) in self.absorbed and self.uses[id(node)] == 1:
            node = self.absorbed[id(node)]
        alone = self.uses[id(node)] == 1 and id(node) not in self.absorbed
        return node if alone and node.op == "Convolution" else None

    def _owner(self, node: Node) -> Node:
        while id(node) in self.absorbed:
            node = self.absorbed[id(node)]
        return node

    def _position(self, node: Node) -> int:
        return self.operators.index(node) if node.op != "null" else -1

    def _image(self, node: Node) -> Node:
        """Return what a convolution or pooling reads, before its prologue."""
        norm = self.prologue.get(id(node))
        return node.source() if norm is None else norm.source()

    def _step(self, kind: str, **words: Any) -> None:
        pairs = ((key, words[key]) for key in words if words[key] is not None)
        self.steps.append(" ".join([kind, *(f"{_word(key)}={_text(v)}" for key, v in pairs)]))

    def _store(self, array: np.ndarray) -> int:
        """Add numbers to the blob, and return where they begin."""
        begin = self.size
        flat = np.ascontiguousarray(array, dtype="float32").ravel()
        self.blob.append(np.pad(flat, (0, -flat.size % LINE)))
        self.size += self.blob[-1].size
        return begin

    def image(self, node: Node) -> None:
        """Emit the reading of the images."""
        self._step("load", out=self.layout.view(node))

    def output(self, node: Node, index: int) -> None:
        """Emit the writing of an output."""
        self._step("store", into=self.layout.view(node), output=index, flat=is_flat(node))

    def convolution(self, node: Node) -> None:
        """Emit a convolution or a dense layer with what is fused into it."""
        weight = self.graph.array(node, 1)
        weight = weight.reshape(weight.shape + (1,) * (4 - weight.ndim))
        groups = int(node.attrs.get("num_group", "1"))
        biased = len(node.inputs) > 2
        bias = self.graph.array(node, 2) if biased else np.zeros(len(weight), "float32")
        blocks, packed = pack_filters(weight, bias, groups)
        scale = shift = None
        norm = self.prologue.get(id(node))
        if norm is not None:
            scale, shift = map(self._store, batch_norm_affine(self.graph, norm))
        addend = self.addend.get(id(node))
        self._step(
            "conv",
            into=self.layout.view(self._image(node)),
            out=self.layout.view(node),
            add=None if addend is None else self.layout.view(addend),
            kernel=weight.shape[2:],
            stride=pair(node, "stride"),
            pad=pair(node, "pad", 0),
            **blocks,
            slope=self.slope.get(id(node), 1),
            weight=self._store(packed[0]),
            bias=self._store(packed[1]),
            scale=scale,
            shift=shift,
        )

    def normalization(self, node: Node) -> None:
        """Emit a normalization that no convolution takes over."""
        scale, shift = map(self._store, batch_norm_affine(self.graph, node))
        slope = 0 if node.op == "_contrib_BatchNormWithReLU" else 1
        view, out = self.layout.view(node.source()), self.layout.view(node)
        self._step("affine", into=view, out=out, scale=scale, shift=shift, slope=slope)

    def pooling(self, node: Node) -> None:
        """Emit a pooling."""
        view, out = self.layout.view(node.source()), self.layout.view(node)
        highest = int(node.attrs.get("pool_type", "max") == "max")
        if is_true(node, "global_pool"):
            self._step("global", into=view, out=out, max=highest)
            return
        window = {key: pair(node, key, int(key != "pad")) for key in ("kernel", "stride", "pad")}
        whole = int(is_true(node, "count_include_pad", "True"))
        self._step("pool", into=view, out=out, **window, max=highest, whole=whole)

    def concatenation(self, node: Node) -> None:
        """Copy the parts that could not be written in their places."""
        whole, channel = self.layout.view(node), 0
        for index, (part, _) in enumerate(node.inputs):
            view = self.layout.view(part)
            if index in self.layout.copies[id(node)]:
                out = View(whole.map, whole.channel + channel, view.channels)
                self._step("copy", into=view, out=out)
            channel += view.channels

    def addition(self, node: Node) -> None:
        """Emit an addition that no convolution takes over."""
        first, second = (self.layout.view(source) for source, _ in node.inputs)
        self._step("copy", into=first, add=second, out=self.layout.view(node))

    def activation(self, node: Node) -> None:
        """Emit an activation that no convolution takes over."""
        view, out = self.layout.view(node.source()), self.layout.view(node)
        self._step("copy", into=view, out=out, slope=slope_of(node))

    def nothing(self, node: Node) -> None:
        """Emit nothing: the output is some channels of what is there."""


# Methods of Lowering.
EMIT = {
    "Activation": "activation",
    "BatchNorm": "normalization",
    "Concat": "concatenation",
    "Convolution": "convolution",
    "Flatten": "nothing",
    "FullyConnected": "convolution",
    "LeakyReLU": "activation",
    "Pooling": "pooling",
    "_contrib_BatchNormWithReLU": "normalization",
    "elemwise_add": "addition",
    "slice_axis": "nothing",
}


def _word(key: str) -> str:
    return "in" if key == "into" else key


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return repr(value) if isinstance(value, float) else str(value)
