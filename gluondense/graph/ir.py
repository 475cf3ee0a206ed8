# SPDX-License-Identifier: Apache-2.0
"""An editable graph: the intermediate representation between two graph passes."""

from __future__ import annotations

import ast
import dataclasses
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import mxnet as mx
import numpy as np

Params = dict[str, np.ndarray]


class Lowered(NamedTuple):
    """A network lowered to a target."""

    graph: Any  # an MXNet graph as JSON, or an ONNX model, which contains its arrays
    params: Params  # arrays of the MXNet graph by name
    # Record of the quantization for the export's metadata; None for float targets.
    quantization: dict[str, Any] | None = None


@dataclasses.dataclass(eq=False)
class Node:
    """An operator, or a variable if ``op`` is ``"null"``.

    ``inputs`` are pairs of a node and the index of its output.
    """

    op: str
    name: str
    attrs: dict[str, str] = dataclasses.field(default_factory=dict)
    inputs: list[tuple[Node, int]] = dataclasses.field(default_factory=list)

    def source(self, index: int = 0) -> Node:
        """Return the node that produces an input."""
        return self.inputs[index][0]

    def is_like(self, op: str, **attrs: str) -> bool:
        """Return whether this is the operator ``op`` and no attribute has another value.

        An attribute that is not set matches any value.
        """
        return self.op == op and all(self.attrs.get(k, v) == v for k, v in attrs.items())

    def value(self, key: str, default: Any = None) -> Any:
        """Parse an attribute; return ``default`` if it is not set or is an empty tuple.

        Examples
        --------
        >>> Node("Pooling", "pool", {"kernel": "(2, 2)", "stride": "()"}).value("kernel")
        (2, 2)
        """
        text = self.attrs.get(key)
        value = default if text is None else ast.literal_eval(text)
        return default if value == () else value

    def pair(self, key: str, default: int = 1) -> tuple[int, int]:
        """Return an attribute of the two spatial dimensions."""
        return self.value(key) or (default, default)

    def flag(self, key: str, default: bool = False) -> bool:
        """Return a boolean attribute, which MXNet writes as ``True`` or ``1``."""
        return self.attrs.get(key, str(default)) in ("True", "1")

    @property
    def groups(self) -> int:
        """Number of groups of a convolution."""
        return int(self.attrs.get("num_group", "1"))


def free_name(name: str, taken: set[str]) -> str:
    """Return the name, with a number if it is already in ``taken``, and add it to ``taken``.

    Examples
    --------
    >>> taken = {"conv", "conv2"}
    >>> free_name("conv", taken), "conv3" in taken
    ('conv3', True)
    """
    names = itertools.chain([name], (f"{name}{number}" for number in itertools.count(2)))
    free = next(candidate for candidate in names if candidate not in taken)
    taken.add(free)
    return free


class Graph:
    """The nodes on which some outputs depend, with the arrays of their variables.

    Passes modify nodes in place and replace them with :meth:`replace`. Nodes that no output depends
    on any more are dropped when the graph is converted back to a Symbol. ``params`` has the array
    of each variable by name, without the prefixes ``arg:`` and ``aux:``.
    """

    def __init__(self, symbol: mx.sym.Symbol, params: Params) -> None:
        content = json.loads(symbol.tojson())
        nodes: list[Node] = []
        for row in content["nodes"]:
            inputs = [(nodes[source], output) for source, output, *_ in row["inputs"]]
            # Attributes with leading underscores are for training and differ between processes.
            attrs = {k: v for k, v in row.get("attrs", {}).items() if not k.startswith("__")}
            nodes.append(Node(row["op"], row["name"], attrs, inputs))
        self.heads = [(nodes[source], output) for source, output, *_ in content["heads"]]
        self.params = dict(params)

    def nodes(self) -> list[Node]:
        """Return all nodes that the outputs depend on in topological order."""
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
        """Iterate over all nodes except the variables, in topological order."""
        return (node for node in self.nodes() if node.op != "null")

    def uses(self) -> Counter[int]:
        """Count the uses of each node, as an input or an output of the graph, by its id."""
        entries = [entry for node in self.nodes() for entry in node.inputs] + self.heads
        return Counter(id(node) for node, _ in entries)

    def readers(self) -> dict[int, list[Node]]:
        """Return the operators that read each node, by the id of the node."""
        readers = defaultdict(list)
        for node in self.operators():
            for source in {id(source) for source, _ in node.inputs}:
                readers[source].append(node)
        return readers

    def replace(self, old: Node, new: Node, output: int = 0) -> None:
        """Redirect all readers of the first output of ``old`` to an output of ``new``."""

        def entry(pair: tuple[Node, int]) -> tuple[Node, int]:
            return (new, output) if pair[0] is old and pair[1] == 0 else pair

        for node in self.nodes():
            if node is not new:
                node.inputs = [entry(pair) for pair in node.inputs]
        self.heads = [entry(pair) for pair in self.heads]

    def variable(self, name: str, array: np.ndarray) -> Node:
        """Add a variable; number its name if another variable has it."""
        free = free_name(name, set(self.params))
        self.params[free] = array
        return Node("null", free)

    def array(self, node: Node, index: int) -> np.ndarray:
        """Return the array that is an input of a node."""
        return self.params[node.source(index).name]

    def rename_duplicates(self) -> None:
        """Number the operators whose name another operator has.

        A layer that a network uses twice gives two nodes of one name, but tensors are looked up by
        their names.
        """
        taken: set[str] = set()
        for node in self.operators():
            node.name = free_name(node.name, taken)

    def to_symbol(self) -> tuple[mx.sym.Symbol, Params]:
        """Return the graph as a Symbol and the arrays that it uses."""
        names = {node.name for node in self.nodes() if node.op == "null"}
        params = {name: array for name, array in self.params.items() if name in names}
        return mx.sym.load_json(self.to_json()), params

    def to_json(self) -> str:
        """Return the graph in MXNet's JSON format."""
        nodes = self.nodes()
        index = {id(node): number for number, node in enumerate(nodes)}

        def entries(pairs: Iterable[tuple[Node, int]]) -> list[list[int]]:
            return [[index[id(node)], output, 0] for node, output in pairs]

        rows: list[dict[str, Any]] = []
        for node in nodes:
            row: dict[str, Any] = {"op": node.op, "name": node.name, "inputs": entries(node.inputs)}
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
