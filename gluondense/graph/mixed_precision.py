"""Mixed precision: which operators of a graph compute in float16 or bfloat16."""

from __future__ import annotations

from .ir import Graph, Node
from .recompute import MARK

LOW = frozenset({"Convolution", "FullyConnected"})


# What stays in float32 between two of them. On the CPU MXNet's gradients of bfloat16 maps are wrong
# in poolings, normalizations or concatenations, so there nothing else is lowered.
FULL = frozenset({"softmax"})


# Parameters and statistics are in float32 whatever the maps are in.
NORMS = frozenset({"BatchNorm", "_contrib_BatchNormWithReLU", "_contrib_SyncBatchNorm"})


def lower(graph: Graph, dtype: str) -> None:
    """Let convolutions and fully-connected layers compute in ``dtype``; outputs are float32.

    Parameters
    ----------
    graph
        Is changed. Casts of what backward recomputes are recomputed too.
    dtype
        ``"float16"`` or ``"bfloat16"``.
    """
    kinds: dict[int, str] = {}
    casts: dict[tuple[int, int, str], Node] = {}

    def cast(entry: tuple[Node, int], kind: str) -> tuple[Node, int]:
        node, output = entry
        if kinds.get(id(node), "float32") == kind:
            return entry
        key = id(node), output, kind
        if key not in casts:
            casts[key] = Node("amp_cast", f"{node.name}_{output}_{kind}", {"dtype": kind}, [entry])
            if MARK in node.attrs:
                casts[key].attrs[MARK] = "True"
        return casts[key], 0

    for node in graph.operators():
        data = node.inputs[:1] if node.op in NORMS else node.inputs
        follows = dtype == "float16" and node.op not in FULL
        low = follows and any(kinds.get(id(source)) == dtype for source, _ in data)
        kind = dtype if node.op in LOW or low else "float32"
        node.inputs = [cast(entry, kind) for entry in data] + node.inputs[len(data) :]
        kinds[id(node)] = kind
    graph.heads = [cast(entry, "float32") for entry in graph.heads]
