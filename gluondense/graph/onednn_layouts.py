"""A network's graph for training on a CPU: what oneDNN's layouts of memory ask of it.

In groups of 4 or 8 channels oneDNN's convolution gives maps, and their gradients, in blocks of so
many channels. MXNet 1.9.1 hands them on as they are, and batch normalization of such blocks is
oneDNN's plainest code: 250 ms in place of 10 for 16 maps of 128x56x56, and more backward. What a
transposition gives has no blocks, neither forward nor backward, so one that leaves the order of the
axes costs a copy. MXNet also keeps a plain copy of what operators without code of oneDNN's read.
"""

from __future__ import annotations

from .ir import Graph, Node

ORDER = {"axes": "(0, 1, 2, 3)"}


def suit_onednn(graph: Graph) -> None:
    """Change a graph to what oneDNN is fast in, and no number."""
    unblock_groups(graph)
    slice_with_onednn(graph)


def unblock_groups(graph: Graph) -> int:
    """Put transpositions that change no order behind each convolution in groups, and before it.

    Returns
    -------
    int
        Number of such convolutions.
    """
    groups = [
        node
        for node in graph.operators()
        if node.op == "Convolution" and node.attrs.get("num_group", "1") != "1"
    ]
    uses = graph.uses()
    for conv in groups:
        graph.replace(conv, _plain(conv))
        # A ReLU's gradient has the blocks of the one that it gets. In front of it nothing more is
        # kept for backward: ReLU keeps its output, which the convolution needs anyway.
        reader, source = conv, conv.source()
        if source.is_like("Activation", act_type="relu") and uses[id(source)] == 1:
            reader, source = source, source.source()
        reader.inputs[0] = (_plain(source, reader.inputs[0][1]), 0)
    return len(groups)


def slice_with_onednn(graph: Graph) -> int:
    """Let channels be cut by the operator that oneDNN has code for.

    Returns
    -------
    int
        Number of operators that changed.
    """
    slices = [node for node in graph.operators() if node.is_like("slice_axis", axis="1")]
    for node in slices:
        node.op = "slice"
        node.attrs = {end: f"(None, {node.attrs[end]})" for end in ("begin", "end")}
    return len(slices)


def is_same_order(node: Node) -> bool:
    """Whether a node changes the layout at most."""
    return node.is_like("transpose", **ORDER)


def _plain(node: Node, output: int = 0) -> Node:
    return Node("transpose", f"{node.name}_plain", dict(ORDER), [(node, output)])
