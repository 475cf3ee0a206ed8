# SPDX-License-Identifier: Apache-2.0
"""Activation checkpointing: mark the operators that MXNet's executor recomputes in backward.

The backward pass of a dense stage reads every concatenation, normalization and bottleneck. Their
memory grows with the square of the number of layers. All of them follow, by operators that are
cheap compared with the 3x3 convolutions, from the feature maps that the layers appended, which grow
linearly (Pleiss et al., "Memory-Efficient Implementation of DenseNets"). The executor recomputes an
operator in backward if its node has the attribute ``__force_mirroring__``. Two rules make this
effective:

- The backward pass of a node reads recomputed inputs only if the node itself is marked, and a
  marked node is recomputed for every marked reader. So convolutions are marked too, and their
  output is stored by an unmarked copy, which works in place and copies nothing. MXNet recomputes a
  marked convolution even if nothing reads the result, so a convolution with a small input is better
  left unmarked.
- Each concatenation reads directly the feature maps that the layers made. If it read the previous
  concatenation, all concatenations of a stage would be in memory at once.
- A recomputed batch normalization does not use cuDNN, which updates the running statistics in
  forward, so recomputation would update them twice a step. MXNet's own operators, on the CPU
  and the GPU, update them in backward.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from typing import Any

import mxnet as mx
import numpy as np

from ..errors import check
from .ir import Graph, Node

MARK = "__force_mirroring__"
CHEAP = frozenset(
    {
        *("Activation", "BatchNorm", "Concat", "LeakyReLU", "_contrib_BatchNormWithReLU"),
        *("LayerNorm", "amp_cast", "broadcast_mul", "expand_dims", "squeeze", "transpose"),
    }
)
# Their backward pass reads their input, which may be recomputed, while their output is stored.
READ_THEIR_INPUT = frozenset({"Convolution", "Pooling"})

Shapes = dict[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class CheckpointingPolicy:
    """Which activations are recomputed in backward instead of stored.

    Parameters
    ----------
    operators
        Operators whose outputs are recomputed. An empty set recomputes nothing.
    convolutions
        Whether to recompute the inputs of convolutions, and 1x1 convolutions themselves.
    min_share
        Feature maps of one size and kind that hold less than this share of all bytes are stored,
        because recomputing them saves too little memory for its time.
    """

    operators: frozenset[str] = CHEAP
    convolutions: bool = True
    min_share: float = 0.0


POLICIES: dict[str, CheckpointingPolicy] = {
    "none": CheckpointingPolicy(frozenset()),
    "light": CheckpointingPolicy(convolutions=False),
    "balanced": CheckpointingPolicy(min_share=0.015),
    "most": CheckpointingPolicy(),
}


def find_policy(memory_efficient: bool | str) -> CheckpointingPolicy:
    """Look up a key of ``POLICIES``; True means ``"balanced"``, False ``"none"``.

    Examples
    --------
    >>> find_policy(True).min_share
    0.015
    """
    name = memory_efficient
    if isinstance(name, bool):
        name = "balanced" if name else "none"
    rule = f"True, False or one of {', '.join(POLICIES)}"
    check("memory_efficient", name, rule, name in POLICIES)
    return POLICIES[name]


def mark_recomputed(graph: Graph, shapes: Shapes, policy: CheckpointingPolicy) -> None:
    """Mark the nodes that the executor recomputes in backward; the function stays the same.

    ``shapes`` are those of :func:`feature_map_shapes`. Outputs of unknown operators, including
    those of libraries, are stored. MXNet always stores Dropout, so its mask is drawn once.
    """
    marked = _select_nodes(graph, shapes, policy)
    _widen_concats(graph, marked)
    _chain_readers(graph, marked)
    stored: dict[Node, Node] = {}
    for node in graph.operators():
        node.inputs = [(stored.get(source, source), out) for source, out in node.inputs]
        if node in marked:
            node.attrs[MARK] = "True"
            if node.op == "BatchNorm":
                node.attrs["cudnn_off"] = "True"
            if _is_stored(node):
                stored[node] = Node("_copy", f"{node.name}_kept", inputs=[(node, 0)])
    graph.heads = [(stored.get(node, node), out) for node, out in graph.heads]


def _is_stored(node: Node) -> bool:
    """Return whether a marked node only reads recomputed inputs and its output is stored."""
    pointwise = node.is_like("Convolution", kernel="(1, 1)", stride="(1, 1)")
    return node.op in READ_THEIR_INPUT and not pointwise


def feature_map_shapes(symbol: mx.sym.Symbol, **inputs: tuple[int, ...]) -> Shapes:
    """Return the shapes of the feature maps (N, C, H, W) by the name of their operator.

    ``inputs`` are the shapes of the graph's inputs.
    """
    internals = symbol.get_internals()
    outputs, (_, shapes, _) = internals.list_outputs(), internals.infer_shape(**inputs)
    ends = ("_output", "_output0")
    return {
        name[: -len(end)]: shape
        for name, shape in zip(outputs, shapes)
        for end in ends
        if name.endswith(end) and len(shape) >= 4  # blocks.base.concat has 5 dimensions
    }


def _select_nodes(graph: Graph, shapes: Shapes, policy: CheckpointingPolicy) -> set[Node]:
    """Select the nodes to recompute and their readers."""
    total = sum(np.prod(shape) for shape in shapes.values())

    def large_enough(kinds: dict[tuple[Any, ...], list[tuple[Node, str]]]) -> set[Node]:
        return {
            node
            for rows in kinds.values()
            if sum(np.prod(shapes[name]) for _, name in rows) >= policy.min_share * total
            for node, _ in rows
        }

    outputs, inputs = defaultdict(list), defaultdict(list)
    for node in graph.operators():
        if node.op in policy.operators and node.name in shapes:
            outputs[shapes[node.name][2:4]].append((node, node.name))
    marked = large_enough(outputs)
    for node in graph.operators() if policy.convolutions else ():
        if node.op in READ_THEIR_INPUT and node.source() in marked:
            name = node.source().name
            inputs[node.op, node.attrs.get("kernel"), shapes[name][2:4]].append((node, name))
    return marked | large_enough(inputs)


def _widen_concats(graph: Graph, marked: set[Node]) -> None:
    """Replace recomputed concatenations among a concatenation's inputs by their own inputs."""
    parts: dict[Node, list[tuple[Node, int]]] = {}
    squeezed: set[Node] = set()
    need_detour: dict[Node, None] = {}  # an ordered set
    for node in graph.operators():
        if node.op == "Concat" and node.attrs.get("dim") == "1" and node in marked:
            reads_squeezed = any(source in squeezed for source, _ in node.inputs)
            node.inputs = [part for entry in node.inputs for part in parts.get(entry[0], [entry])]
            node.attrs["num_args"] = str(len(node.inputs))
            parts[node] = node.inputs
            if reads_squeezed:
                need_detour[node] = None
        elif node.op == "squeeze" and node.source().op == "expand_dims":
            # The fifth axis of blocks.base.concat, which oneDNN needs at some widths.
            source = node.source().source()
            if source in parts:
                parts[node] = parts[source]
                squeezed.add(node)
                need_detour.pop(source, None)
    for node in need_detour:
        _add_detour(graph, node, marked)


def _chain_readers(graph: Graph, marked: set[Node]) -> None:
    """Let the concatenations that read one feature map read copies of it, each of the previous one.

    MXNet sums three or four gradients of one tensor as a + (b + (c + d)), and other numbers from
    the left, as nested concatenations do. With chained copies, which work in place, gradients are
    summed in pairs from the last reader to the first, so that the sums are bitwise equal. (With
    more than four readers, copies would only cost memory.)
    """
    uses = Counter((source, out) for node in graph.nodes() for source, out in node.inputs)
    readers: dict[tuple[Node, int], list[tuple[Node, int]]] = defaultdict(list)
    for node in graph.operators():
        if node.op == "Concat" and node in marked:
            for position, (source, out) in enumerate(node.inputs):
                readers[source, out].append((node, position))
    for key, rows in readers.items():
        if not 3 <= uses[key] <= 4:
            continue
        concat, position = rows[0]
        source, out = concat.inputs[position]
        recomputed = source in marked and not _is_stored(source)
        for number, (concat, position) in enumerate(rows):
            if number < len(rows) - 1:
                copy = Node("_copy", f"{source.name}_read{number}", inputs=[(source, out)])
                if recomputed:
                    marked.add(copy)
                source, out = copy, 0
            concat.inputs[position] = (source, out)


def _add_detour(graph: Graph, node: Node, marked: set[Node]) -> None:
    """Add and remove a fifth axis after a concatenation, see ``blocks.base.concat``."""
    expanded = Node("expand_dims", f"{node.name}_longer", {"axis": "4"}, [(node, 0)])
    detour = Node("squeeze", f"{node.name}_squeezed", {"axis": "4"}, [(expanded, 0)])
    marked |= {expanded, detour}
    for reader in graph.readers()[id(node)]:
        reader.inputs = [
            (detour, 0) if source is node else (source, out) for source, out in reader.inputs
        ]
    graph.heads = [(detour, 0) if head is node else (head, out) for head, out in graph.heads]
