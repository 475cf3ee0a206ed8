"""What backward computes again instead of keeping: a graph marked for MXNet's executor.

Backward reads, of a dense stage, every concatenation, normalization and bottleneck: memory that
grows with the square of the number of layers. All of it follows from the maps that the layers
appended, which grow linearly, by operators that are cheap beside the 3x3 convolutions (Pleiss et
al., "Memory-Efficient Implementation of DenseNets"). The executor computes an operator again in
backward where its node has ``__force_mirroring__``. Two things make that worth its name:

- A node's backward reads the recomputed inputs only if it is marked itself, and a marked node is
  recomputed for every marked reader. So convolutions are marked too, and what shall be kept of them
  goes through a copy that is not marked (and copies nothing, as it works in place). MXNet computes
  a marked convolution again even where nobody reads the result, so one whose input is small is
  better left alone with it.
- Each concatenation is written out as one of the maps that the layers made. Recomputed from the
  concatenation before it, all of a stage's would have to be there at once.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from typing import Any

import mxnet as mx
import numpy as np

from .ir import Graph, Node
from .onednn_layouts import is_same_order

MARK = "__force_mirroring__"
CHEAP = frozenset(
    {
        "Activation",
        "BatchNorm",
        "Concat",
        "LeakyReLU",
        "_contrib_BatchNormWithReLU",
        "amp_cast",
        "broadcast_mul",
        "expand_dims",
        "squeeze",
    }
)
# Backward reads their input, which shall be the recomputed one, and they themselves are kept.
READ_THEIR_INPUT = frozenset({"Convolution", "Pooling"})


@dataclasses.dataclass(frozen=True)
class Recompute:
    """Which maps backward computes again.

    Parameters
    ----------
    operators
        Those whose outputs are computed again; none recomputes nothing.
    convolutions
        Whether what convolutions read is computed again too, and the 1x1 convolutions themselves.
    least
        Maps of one size and kind that hold less than this share of all bytes are kept: they are not
        worth their time.
    """

    operators: frozenset[str] = CHEAP
    convolutions: bool = True
    least: float = 0.0


RECOMPUTE: dict[str, Recompute] = {
    "none": Recompute(frozenset()),
    "light": Recompute(convolutions=False),
    "balanced": Recompute(least=0.015),
    "most": Recompute(),
}


def find_recompute(setting: bool | str) -> Recompute:
    """Look up a setting: a key of ``RECOMPUTE``, True for ``"balanced"``, False for ``"none"``.

    Raises
    ------
    ValueError
        If there is no such setting.

    Examples
    --------
    >>> find_recompute(True).least
    0.015
    """
    name = ("balanced" if setting else "none") if isinstance(setting, bool) else setting
    if name not in RECOMPUTE:
        raise ValueError(
            f"`memory_efficient` must be True, False or one of {', '.join(RECOMPUTE)}, "
            f"got {setting!r}."
        )
    return RECOMPUTE[name]


def mark(graph: Graph, sizes: dict[str, tuple[int, ...]], how: Recompute) -> None:
    """Mark what the executor's backward shall compute again; the function stays the same.

    Parameters
    ----------
    graph
        Is changed. Operators that are not known here, those of libraries among them, are kept;
        MXNet keeps Dropout in any case, so its mask is drawn once.
    sizes
        Shapes of the maps by node, see :func:`map_sizes`.
    how
        What to recompute.
    """
    again = _again(graph, sizes, how)
    _widen_concats(graph, again)
    _chain_readers(graph, again)
    kept: dict[int, Node] = {}
    for node in graph.operators():
        node.inputs = [(kept.get(id(source), source), out) for source, out in node.inputs]
        if id(node) in again:
            node.attrs[MARK] = "True"
            if _is_kept(node):
                kept[id(node)] = Node("_copy", f"{node.name}_kept", inputs=[(node, 0)])
    graph.heads = [(kept.get(id(node), node), out) for node, out in graph.heads]


def _is_kept(node: Node) -> bool:
    """Whether a node is marked only to read what is computed again."""
    pointwise = node.is_like("Convolution", kernel="(1, 1)", stride="(1, 1)")
    return node.op in READ_THEIR_INPUT and not pointwise


def map_sizes(symbol: mx.sym.Symbol, **shapes: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Shapes of the maps (N, C, H, W) by the name of the operator that makes them.

    Parameters
    ----------
    symbol
        The graph.
    **shapes
        Of its data.
    """
    inner = symbol.get_internals()
    outputs, (_, found, _) = inner.list_outputs(), inner.infer_shape(**shapes)
    ends = ("_output", "_output0")
    return {
        name[: -len(end)]: shape
        for name, shape in zip(outputs, found)
        for end in ends
        if name.endswith(end) and len(shape) >= 4  # 5 in the detour of blocks.concat
    }


def _again(graph: Graph, sizes: dict[str, tuple[int, ...]], how: Recompute) -> set[int]:
    """Return what to mark: what is computed again, and what shall read that."""
    total = sum(np.prod(shape) for shape in sizes.values())

    def worthy(kinds: dict[tuple[Any, ...], list[tuple[Node, str]]]) -> set[int]:
        return {
            id(node)
            for rows in kinds.values()
            if sum(np.prod(sizes[name]) for _, name in rows) >= how.least * total
            for node, _ in rows
        }

    outputs, inputs = defaultdict(list), defaultdict(list)
    for node in graph.operators():
        cheap = node.op in how.operators or is_same_order(node)
        if how.operators and cheap and node.name in sizes:
            outputs[sizes[node.name][2:4]].append((node, node.name))
    again = worthy(outputs)
    for node in graph.operators() if how.convolutions else ():
        if node.op in READ_THEIR_INPUT and id(node.source()) in again:
            name = node.source().name
            inputs[node.op, node.attrs.get("kernel"), sizes[name][2:4]].append((node, name))
    return again | worthy(inputs)


def _widen_concats(graph: Graph, again: set[int]) -> None:
    """Let each recomputed concatenation read the parts of the recomputed ones that it reads."""
    parts: dict[int, list[tuple[Node, int]]] = {}
    detoured: set[int] = set()
    squeezes: dict[int, Node] = {}
    for node in graph.operators():
        if node.op == "Concat" and node.attrs.get("dim") == "1" and id(node) in again:
            through = any(id(source) in detoured for source, _ in node.inputs)
            node.inputs = [
                part for entry in node.inputs for part in parts.get(id(entry[0]), [entry])
            ]
            node.attrs["num_args"] = str(len(node.inputs))
            parts[id(node)] = node.inputs
            if through:
                squeezes[id(node)] = node
        elif node.op == "squeeze" and node.source().op == "expand_dims":
            # The detour of blocks.concat: widths between which oneDNN can't cut a gradient.
            source = node.source().source()
            if id(source) in parts:
                parts[id(node)] = parts[id(source)]
                detoured.add(id(node))
                squeezes.pop(id(source), None)
    for node in squeezes.values():
        _add_detour(graph, node, again)


def _chain_readers(graph: Graph, again: set[int]) -> None:
    """Let the concatenations that read one map read copies of it, each a copy of the one before.

    MXNet adds up three or four gradients of one map as a + (b + (c + d)), and others from the left,
    as nested concatenations do. From copies, which work in place, they come in pairs, from the last
    reader to the first: the sums are the same to the bit. (With more than four it would only cost
    memory.)
    """
    uses = Counter((id(source), out) for node in graph.nodes() for source, out in node.inputs)
    readers: dict[tuple[int, int], list[tuple[Node, int]]] = defaultdict(list)
    for node in graph.operators():
        if node.op == "Concat" and id(node) in again:
            for place, (source, out) in enumerate(node.inputs):
                readers[id(source), out].append((node, place))
    for key, rows in readers.items():
        if not 3 <= uses[key] <= 4:
            continue
        concat, place = rows[0]
        source, out = concat.inputs[place]
        recomputed = id(source) in again and not _is_kept(source)
        for number, (concat, place) in enumerate(rows):
            if number < len(rows) - 1:
                copy = Node("_copy", f"{source.name}_read{number}", inputs=[(source, out)])
                if recomputed:
                    again.add(id(copy))
                source, out = copy, 0
            concat.inputs[place] = (source, out)


def _add_detour(graph: Graph, node: Node, again: set[int]) -> None:
    longer = Node("expand_dims", f"{node.name}_longer", {"axis": "4"}, [(node, 0)])
    detour = Node("squeeze", f"{node.name}_squeezed", {"axis": "4"}, [(longer, 0)])
    again |= {id(longer), id(detour)}
    for reader in graph.readers()[id(node)]:
        reader.inputs = [
            (detour, 0) if source is node else (source, out) for source, out in reader.inputs
        ]
    graph.heads = [(detour, 0) if head is node else (head, out) for head, out in graph.heads]
