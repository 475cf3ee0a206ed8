# SPDX-License-Identifier: Apache-2.0
"""Memory layouts for oneDNN when a network trains on a CPU.

For groups of 4 or 8 channels, the convolution of oneDNN returns activations and gradients in
blocked layouts of that many channels. MXNet 1.9.1 passes them on, and batch normalization of such
a layout runs oneDNN's reference implementation: 250 ms instead of 10 ms for (16, 128, 56, 56), and
more in backward. The output of a transposition is never blocked, neither in forward nor in
backward, so a transposition that keeps the order of the axes removes the blocks for one copy.
MXNet also keeps an additional plain copy of arrays that operators without oneDNN support read.
"""

from __future__ import annotations

from .ir import Graph, Node

IDENTITY = {"axes": "(0, 1, 2, 3)"}
# Channels per block of oneDNN's blocked layouts. MXNet 1.9.1 fails or ends the process with SIGFPE
# if it slices a blocked feature map within a block.
BLOCK = 16
ENDS = ("begin", "end")


def use_onednn_layouts(graph: Graph) -> None:
    """Apply the passes of this module, which change no result."""
    unblock_grouped_convs(graph)
    use_onednn_slices(graph)


def unblock_grouped_convs(graph: Graph) -> int:
    """Insert identity transpositions around each grouped convolution; return their number."""
    grouped = [node for node in graph.operators() if node.op == "Convolution" and node.groups > 1]
    uses = graph.uses()
    for conv in grouped:
        graph.replace(conv, _identity_transpose(conv))
        # The gradient of a ReLU has the layout of its output's gradient. A transposition before
        # the ReLU saves no memory for backward: a ReLU keeps its output, which the convolution
        # needs anyway.
        reader, source = conv, conv.source()
        if source.is_like("Activation", act_type="relu") and uses[id(source)] == 1:
            reader, source = source, source.source()
        reader.inputs[0] = (_identity_transpose(source, reader.inputs[0][1]), 0)
    return len(grouped)


def use_onednn_slices(graph: Graph) -> int:
    """Replace each ``slice_axis`` of whole blocks of channels by oneDNN's ``slice``; count them."""
    slices = [
        node
        for node in graph.operators()
        if node.is_like("slice_axis", axis="1")
        and all(node.attrs[end] == "None" or int(node.attrs[end]) % BLOCK == 0 for end in ENDS)
    ]
    for node in slices:
        node.op = "slice"
        node.attrs = {end: f"(None, {node.attrs[end]})" for end in ENDS}
    return len(slices)


def is_identity_transpose(node: Node) -> bool:
    """Return whether a node changes the memory layout only."""
    return node.is_like("transpose", **IDENTITY)


def _identity_transpose(node: Node, output: int = 0) -> Node:
    return Node("transpose", f"{node.name}_plain", dict(IDENTITY), [(node, output)])
