"""A graph as one operator's program: steps over maps, and a blob of packed weights."""

from __future__ import annotations

import ast
from typing import Any

import mxnet as mx
import numpy as np

from ..ir import Graph, Node, Params
from ..passes import batch_norm_line
from .build import OPERATOR
from .layout import Layout, View

FORMAT = 1
BLOB = "gluondense_weights"
BLOCK = 32  # kBlock of src/kernels.h
LINE = 16  # floats of a cache line


def as_program(graph: Graph) -> tuple[str, Params]:
    """Return a graph of the one operator that computes what a graph does, and its array.

    Raises
    ------
    ValueError
        If the graph has an operator that no step stands for.
    """
    program, blob = Lowering(graph).lower()
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
    graph
        After the passes of ``deploy.passes``.

    Raises
    ------
    ValueError
        If the graph has an operator that no step stands for.
    """

    def __init__(self, graph: Graph) -> None:
        _check_operators(graph)
        self.graph, self.operators = graph, list(graph.operators())
        self.readers, self.uses = graph.readers(), graph.uses()
        self.channels = _channels(graph)
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
        return f"gluondense format={FORMAT} blob={self.size}"

    def _emit(self) -> None:
        for node in self.graph.nodes():
            if node.op == "null" and node.name not in self.graph.params:
                self.image(node)
        for node in self.operators:
            if id(node) not in self.absorbed:
                getattr(self, EMIT[node.op])(node)
        for index, (node, _) in enumerate(self.graph.heads):
            self.output(node, index)

    def _fuse(self, node: Node) -> None:
        if node.op == "Flatten":
            self.absorbed[id(node)] = node.source()
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
            if norm.op == "_contrib_BatchNormWithReLU" and self.uses[id(norm)] == 1 and whole:
                self.prologue[id(node)] = norm
                self.skipped.add(id(norm))

    def _alone(self, node: Node) -> Node | None:
        """Return the convolution that writes a tensor which nothing else reads."""
        owner = self._owner(node)
        return owner if self.uses[id(node)] == 1 and owner.op == "Convolution" else None

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
            scale, shift = map(self._store, batch_norm_line(self.graph, norm))
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
        scale, shift = map(self._store, batch_norm_line(self.graph, node))
        slope = 0 if node.op == "_contrib_BatchNormWithReLU" else 1
        view, out = self.layout.view(node.source()), self.layout.view(node)
        self._step("affine", into=view, out=out, scale=scale, shift=shift, slope=slope)

    def pooling(self, node: Node) -> None:
        """Emit a pooling."""
        view, out = self.layout.view(node.source()), self.layout.view(node)
        highest = int(node.attrs.get("pool_type", "max") == "max")
        if _true(node, "global_pool"):
            self._step("global", into=view, out=out, max=highest)
            return
        window = {key: pair(node, key, int(key != "pad")) for key in ("kernel", "stride", "pad")}
        whole = int(_true(node, "count_include_pad", "True"))
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


def pack_filters(
    weight: np.ndarray, bias: np.ndarray, groups: int
) -> tuple[dict[str, int], tuple[np.ndarray, np.ndarray]]:
    """Arrange filters (N, C, H, W) in blocks (H, W, C, 32) of output channels.

    A block has whole groups, as many as fit into 16 channels, or an equal part of one.

    Examples
    --------
    >>> weight, bias = np.zeros((48, 3, 7, 7)), np.zeros(48)
    >>> blocks, (filters, biases) = pack_filters(weight, bias, groups=1)
    >>> blocks
    {'blocks': 2, 'block_in': 3, 'block_step': 0, 'block_share': 1, 'block_out': 32}
    >>> filters.shape, biases.shape
    ((2, 7, 7, 3, 32), (2, 32))
    """
    count, depth = weight.shape[:2]
    each = count // groups
    if groups == 1:
        together, share, width, blocks = 1, 1, BLOCK, -(-count // BLOCK)
    elif each <= BLOCK // 4:
        together = max(n for n in range(1, BLOCK // 2 // each + 1) if groups % n == 0)
        share, width, blocks = 1, together * each, groups // together
    else:
        share = next(n for n in range(1, each + 1) if each % n == 0 and each // n <= BLOCK)
        together, width, blocks = 1, each // share, groups * share
    filters = np.zeros((blocks, *weight.shape[2:], depth * together, BLOCK), "float32")
    biases = np.zeros((blocks, BLOCK), "float32")
    for channel in range(count):
        block, lane = divmod(channel, width)
        first = channel // each % together * depth
        filters[block, :, :, first : first + depth, lane] = weight[channel].transpose(1, 2, 0)
        biases[block, lane] = bias[channel]
    sizes = {
        "blocks": blocks,
        "block_in": depth * together,
        "block_step": 0 if groups == 1 else depth * together,
        "block_share": share,
        "block_out": width,
    }
    return sizes, (filters, biases)


def _channels(graph: Graph) -> dict[int, int]:
    """Channels of each node's output, by its id."""
    channels: dict[int, int] = {}
    for node in graph.operators():
        source = node.source()
        if source.op == "null" and id(source) not in channels:
            depth = graph.array(node, 1).shape[1] if node.op == "Convolution" else None
            if depth is None:
                raise ValueError(
                    f"target='native': the image goes into a {node.op}, where it runs only "
                    "networks that begin with a convolution: use target='onednn'."
                )
            channels[id(source)] = depth * int(node.attrs.get("num_group", "1"))
        if node.op in ("Convolution", "FullyConnected"):
            channels[id(node)] = len(graph.array(node, 1))
        elif node.op == "Concat":
            channels[id(node)] = sum(channels[id(part)] for part, _ in node.inputs)
        elif node.op == "slice_axis":
            begin, end = (ast.literal_eval(node.attrs[key]) for key in ("begin", "end"))
            channels[id(node)] = len(range(channels[id(source)])[begin:end])
        else:
            channels[id(node)] = channels[id(source)]
    return channels


# What steps stand for, where an operator has more than they do.
LIMITS: dict[str, dict[str, tuple[str, ...]]] = {
    "Activation": {"act_type": ("relu",)},
    "BatchNorm": {"axis": ("1",)},
    "Concat": {"dim": ("1",)},
    "Convolution": {"dilate": ("(1, 1)", "()")},
    "LeakyReLU": {"act_type": ("leaky",)},
    "Pooling": {"pool_type": ("avg", "max"), "pooling_convention": ("valid",)},
    "slice_axis": {"axis": ("1",)},
}


def _check_operators(graph: Graph) -> None:
    for node in graph.operators():
        limits = LIMITS.get(node.op, {})
        if node.op == "Pooling" and _true(node, "global_pool"):
            limits = {"pool_type": limits["pool_type"]}
        beyond = [
            f"{key}={node.attrs[key]}"
            for key, values in limits.items()
            if node.attrs.get(key, values[0]) not in values
        ]
        if node.op not in EMIT or beyond:
            raise ValueError(
                f"target='native' has no step for {node.op}({', '.join(beyond)}) (node "
                f"{node.name}): use target='onednn'."
            )


def is_flat(node: Node) -> int:
    """Whether an output is (N, C), as a number."""
    return int(node.op in ("FullyConnected", "Flatten"))


def slope_of(node: Node) -> float:
    """Return what an activation multiplies negative numbers by."""
    return float(node.attrs.get("slope", 0.25)) if node.op == "LeakyReLU" else 0.0


def pair(node: Node, attr: str, default: int = 1) -> tuple[int, int]:
    """Return an attribute of the two directions."""
    return ast.literal_eval(node.attrs.get(attr, "()")) or (default, default)


def _true(node: Node, attr: str, default: str = "False") -> bool:
    return node.attrs.get(attr, default) in ("True", "1")


def _word(key: str) -> str:
    return "in" if key == "into" else key


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return repr(value) if isinstance(value, float) else str(value)
