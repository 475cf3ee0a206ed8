"""A graph that can be edited: what a Symbol is between two passes."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import mxnet as mx
import numpy as np

Params = dict[str, np.ndarray]


class Lowered(NamedTuple):
    """What a network became for a target.

    Parameters
    ----------
    graph
        MXNet's, as JSON; or an ONNX model, which has its arrays inside.
    params
        The arrays.
    quantization
        How 8 bits were made, for the export's metadata; None where they weren't.
    """

    graph: Any
    params: Params
    quantization: dict[str, Any] | None = None


@dataclasses.dataclass(eq=False)
class Node:
    """An operator or, where ``op`` is ``"null"``, a variable.

    Parameters
    ----------
    op, name
        As in MXNet.
    attrs
        The operator's parameters as strings.
    inputs
        Pairs of a node and the number of its output.
    """

    op: str
    name: str
    attrs: dict[str, str] = dataclasses.field(default_factory=dict)
    inputs: list[tuple[Node, int]] = dataclasses.field(default_factory=list)

    def source(self, index: int = 0) -> Node:
        """Return the node that gives an input."""
        return self.inputs[index][0]

    def is_like(self, op: str, **attrs: str) -> bool:
        """Whether this is such an operator, as far as its attributes are written."""
        return self.op == op and all(self.attrs.get(k, v) == v for k, v in attrs.items())


class Graph:
    """The nodes that some outputs need, with the arrays of their variables.

    Passes change nodes in place and replace them with :meth:`replace`; what no output needs any
    more is left out when the graph becomes a Symbol again.

    Parameters
    ----------
    symbol
        The graph.
    params
        Array of each variable by name, without ``arg:`` and ``aux:``.
    """

    def __init__(self, symbol: mx.sym.Symbol, params: Params) -> None:
        content = json.loads(symbol.tojson())
        nodes: list[Node] = []
        for row in content["nodes"]:
            inputs = [(nodes[source], output) for source, output, *_ in row["inputs"]]
            # What begins with underscores is for training, and differs between processes.
            attrs = {k: v for k, v in row.get("attrs", {}).items() if not k.startswith("__")}
            nodes.append(Node(row["op"], row["name"], attrs, inputs))
        self.heads = [(nodes[source], output) for source, output, *_ in content["heads"]]
        self.params = dict(params)

    def nodes(self) -> list[Node]:
        """All nodes that the outputs need, each after its inputs."""
        order: list[Node] = []
        seen: set[int] = set()
        stack = [(node, False) for node, _ in reversed(self.heads)]
        while stack:
            node, done = stack.pop()
            if done:
                order.append(node)
            elif id(node) not in seen:
                seen.add(id(node))
                stack.append((node, True))
                stack += [(source, False) for source, _ in reversed(node.inputs)]
        return order

    def operators(self) -> Iterator[Node]:
        """All nodes but the variables."""
        return (node for node in self.nodes() if node.op != "null")

    def uses(self) -> Counter[int]:
        """How often each node is read, by its id."""
        entries = [entry for node in self.nodes() for entry in node.inputs] + self.heads
        return Counter(id(node) for node, _ in entries)

    def readers(self) -> dict[int, list[Node]]:
        """The operators that read each node, by its id."""
        readers = defaultdict(list)
        for node in self.operators():
            for source in {id(source) for source, _ in node.inputs}:
                readers[source].append(node)
        return readers

    def replace(self, old: Node, new: Node, output: int = 0) -> None:
        """Let all that read the one node's first output read an output of the other."""

        def entry(pair: tuple[Node, int]) -> tuple[Node, int]:
            return (new, output) if pair[0] is old and pair[1] == 0 else pair

        for node in self.nodes():
            if node is not new:
                node.inputs = [entry(pair) for pair in node.inputs]
        self.heads = [entry(pair) for pair in self.heads]

    def variable(self, name: str, array: np.ndarray) -> Node:
        """Add a variable of a name that is free."""
        number, free = 1, name
        while free in self.params:
            number += 1
            free = f"{name}{number}"
        self.params[free] = array
        return Node("null", free)

    def array(self, node: Node, index: int) -> np.ndarray:
        """Return the array that is a node's input."""
        return self.params[node.source(index).name]

    def to_symbol(self) -> tuple[mx.sym.Symbol, Params]:
        """Return the graph as a Symbol, and the arrays that it needs."""
        names = {node.name for node in self.nodes() if node.op == "null"}
        params = {name: array for name, array in self.params.items() if name in names}
        return mx.sym.load_json(self.to_json()), params

    def to_json(self) -> str:
        """Return the graph as MXNet writes it."""
        nodes = self.nodes()
        index = {id(node): number for number, node in enumerate(nodes)}

        def entries(pairs: Iterable[tuple[Node, int]]) -> list[list[int]]:
            return [[index[id(node)], output, 0] for node, output in pairs]

        rows: list[dict[str, Any]] = []
        for node in nodes:
            row: dict[str, Any] = {
                "op": node.op,
                "name": node.name,
                "inputs": entries(node.inputs),
            }
            if node.attrs:
                row["attrs"] = node.attrs
            rows.append(row)
        content = {
            "nodes": rows,
            "arg_nodes": [number for number, node in enumerate(nodes) if node.op == "null"],
            "heads": entries(self.heads),
            "attrs": {"mxnet_version": ["int", 10901]},
        }
        return json.dumps(content, indent=2) + "\n"


Pass = Callable[[Graph], int]
