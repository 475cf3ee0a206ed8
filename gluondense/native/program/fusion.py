# SPDX-License-Identifier: Apache-2.0
"""Operators that the step of a convolution computes as well."""

from __future__ import annotations

from ...graph.ir import Graph, Node
from .operators import is_gelu, negative_slope

NORMS = ("_contrib_BatchNormWithReLU", "layer_norm")  # of prologues


class Fusion:
    """Fuses normalizations, activations and additions into the convolutions of a graph.

    ``fused`` has the node that computes another one's output in its place, by the id of the latter.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph, self.operators = graph, list(graph.operators())
        self.uses = graph.uses()
        self.fused: dict[int, Node] = {}
        # By the id of a convolution: the normalization in front of it, its residual, the slope of
        # its activation.
        self.prologue: dict[int, Node] = {}
        self.residual: dict[int, Node] = {}
        self.slope: dict[int, float] = {}
        self.gelu: set[int] = set()  # whose activation is a GELU
        self.add_last: set[int] = set()  # whose residual is added after their activation
        self.skipped: set[int] = set()  # normalizations that only a prologue computes
        for node in self.operators:
            self._fuse(node)
        self.operators = [node for node in self.operators if id(node) not in self.skipped]

    def _fuse(self, node: Node) -> None:
        if node.op == "Flatten":
            self.fused[id(node)] = node.source()  # of one pixel
        elif is_gelu(node):
            self._fuse_gelu(node)
        elif node.op in ("Activation", "LeakyReLU"):
            conv = self._sole_writer(node.source())
            if conv is not None and id(conv) not in self.slope:
                self.fused[id(node)], self.slope[id(conv)] = node.source(), negative_slope(node)
        elif node.op == "elemwise_add":
            # The later one of the two adds the earlier one to its sums.
            order = [self._position(source) for source, _ in node.inputs]
            later = order[1] > order[0]
            conv = self._sole_writer(node.source(later))
            if conv is not None and id(conv) not in self.residual:
                if id(conv) in self.slope:
                    self.add_last.add(id(conv))
                self.fused[id(node)], self.residual[id(conv)] = conv, node.source(not later)
        elif node.op == "Convolution" and node.pair("kernel") == (1, 1):
            norm, plain = node.source(), node.groups == 1 and not any(node.pair("pad", 0))
            if norm.op in NORMS and self.uses[id(norm)] == 1 and plain:
                self.prologue[id(node)] = norm
                self.skipped.add(id(norm))

    def _fuse_gelu(self, node: Node) -> None:
        conv = self._sole_writer(node.source())
        if conv is node.source() and not is_depthwise(self.graph, conv):
            self.fused[id(node)] = conv
            self.gelu.add(id(conv))

    def _sole_writer(self, node: Node) -> Node | None:
        """Return the convolution that computes a tensor which has only one reader, or None.

        A convolution with a GELU is complete.
        """
        while id(node) in self.fused and self.uses[id(node)] == 1:
            node = self.fused[id(node)]
        sole = self.uses[id(node)] == 1 and id(node) not in self.fused
        is_open = node.op == "Convolution" and id(node) not in self.gelu
        return node if sole and is_open else None

    def _position(self, node: Node) -> int:
        while id(node) in self.fused:
            node = self.fused[id(node)]
        return self.operators.index(node) if node.op != "null" else -1


def is_depthwise(graph: Graph, conv: Node) -> bool:
    """Return whether a convolution is depthwise: each output channel reads one input channel."""
    return conv.groups > 1 and graph.array(conv, 1).shape[:2] == (conv.groups, 1)
