# SPDX-License-Identifier: Apache-2.0
"""Which layers the channels of a tensor come from, and which convolutions read them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..graph.ir import Graph, Node

ADDITIONS = ("elemwise_add", "_plus", "broadcast_add")
LAYERS = {"Convolution": "num_filter", "FullyConnected": "num_hidden"}
# Operators between a concatenation and the layer that reads it; none of them mixes channels.
CHANNELWISE = ("Activation", "BatchNorm", "Dropout", "Flatten", "LeakyReLU", "Pooling")


class Channels(NamedTuple):
    """The channels ``begin`` to ``end`` of a node's output."""

    node: Node
    begin: int
    end: int

    @property
    def width(self) -> int:
        """Number of channels."""
        return self.end - self.begin


Origin = tuple[Channels, ...]


def find_origins(graph: Graph, data: str, in_channels: int) -> dict[int, Origin]:
    """Return the origin of the channels of each node, by its id.

    Convolutions, fully-connected layers and additions are origins, and the input ``data`` with
    its ``in_channels``. Concatenations and slices along the channels are followed; all other
    operators keep the channels of their first input.

    Examples
    --------
    >>> import mxnet as mx
    >>> x = mx.sym.var("data")
    >>> y = mx.sym.Convolution(x, kernel=(1, 1), num_filter=4, name="conv")
    >>> z = mx.sym.slice_axis(mx.sym.concat(x, y, dim=1), axis=1, begin=2, end=5)
    >>> graph = Graph(z, {})
    >>> origins = find_origins(graph, "data", 3)
    >>> [(found.node.name, found.begin, found.end) for found in origins[id(graph.heads[0][0])]]
    [('data', 2, 3), ('conv', 0, 2)]
    """
    origins: dict[int, Origin] = {}
    for node in graph.nodes():
        inputs = [origins[id(source)] for source, _ in node.inputs]
        if node.op == "null":
            found: Origin = (Channels(node, 0, in_channels),) if node.name == data else ()
        elif node.op in LAYERS:
            found = (Channels(node, 0, int(node.attrs[LAYERS[node.op]])),)
        elif node.op in ADDITIONS:
            found = (Channels(node, 0, sum(part.width for part in inputs[0])),)
        elif node.op == "Concat" and node.value("dim", 1) == 1:
            found = tuple(part for origin in inputs for part in origin)
        elif node.op == "slice_axis" and node.value("axis") == 1:
            found = tuple(_sliced(inputs[0], node.value("begin", 0), node.value("end")))
        else:
            found = next((origin for origin in inputs if origin), ())
        origins[id(node)] = found
    return origins


def _sliced(origin: Origin, begin: int, end: int | None) -> Iterator[Channels]:
    total = sum(part.width for part in origin)
    first, last, _ = slice(begin, end).indices(total)
    offset = 0
    for part in origin:
        low, high = max(first - offset, 0), min(last - offset, part.width)
        if low < high:
            yield Channels(part.node, part.begin + low, part.begin + high)
        offset += part.width


def read_by(node: Node) -> tuple[Node, list[Node]]:
    """Return the node whose output a layer reads, and the channelwise operators in between.

    ``node`` is the layer, or another operator whose first input is followed.
    """
    between = []
    source = node.source()
    while source.op in CHANNELWISE:
        between.append(source)
        source = source.source()
    return source, between
