# SPDX-License-Identifier: Apache-2.0
"""Patterns of MXNet's operators that programs have one step for."""

from __future__ import annotations

from ...graph.ir import Graph, Node


def fuse_patterns(graph: Graph) -> None:
    """Replace patterns by operators that only programs have."""
    fuse_silu(graph)
    fuse_hard_sigmoid(graph)
    fuse_layer_norm(graph)
    fuse_upsampling(graph)


def fuse_silu(graph: Graph) -> int:
    """Replace x * sigmoid(x) by ``silu``, and x * sigmoid(y) by ``sigmoid_gate``."""
    changed = 0
    for node in graph.operators():
        if node.op == "elemwise_mul":
            (x, gate) = node.inputs
            if gate[0].is_like("Activation", act_type="sigmoid"):
                (y,) = gate[0].inputs
                node.op, node.attrs = ("silu" if x == y else "sigmoid_gate"), {}
                node.inputs = [x] if x == y else [x, y]
                changed += 1
    return changed


def fuse_upsampling(graph: Graph) -> int:
    """Replace a repetition of pixels that is cut to a map's size by ``upsample_like``."""
    changed, uses = 0, graph.uses()
    for node in graph.operators():
        source = node.source()
        repeats = source.is_like("UpSampling", sample_type="nearest") and uses[id(source)] == 1
        if node.is_like("slice_like", axes="(2, 3)") and repeats:
            node.op, node.attrs = "upsample_like", {"scale": source.attrs["scale"]}
            node.inputs[0] = source.inputs[0]
            changed += 1
    return changed


def fuse_hard_sigmoid(graph: Graph) -> int:
    """Replace clip(x + 3, 0, 6) / 6 by ``hard_sigmoid``."""
    changed = 0
    for node in graph.operators():
        if not _has_values(node, "_div_scalar", scalar=6):
            continue
        clip = node.source()
        if not _has_values(clip, "clip", a_min=0, a_max=6):
            continue
        if _has_values(clip.source(), "_plus_scalar", scalar=3):
            node.op, node.attrs, node.inputs = "hard_sigmoid", {}, clip.source().inputs
            changed += 1
    return changed


def _has_values(node: Node, op: str, **values: float) -> bool:
    return node.op == op and all(float(node.attrs[key]) == v for key, v in values.items())


def fuse_layer_norm(graph: Graph) -> int:
    """Replace layer normalization of the last axis, between transpositions, by ``layer_norm``.

    ``blocks.norm.ChannelNorm`` normalizes the channels of each pixel in this way.
    """
    changed, uses = 0, graph.uses()
    for back in graph.operators():
        if not back.is_like("transpose") or back.value("axes") != (0, 3, 1, 2):
            continue
        norm = back.source()
        if norm.op != "LayerNorm" or norm.value("axis") != -1 or uses[id(norm)] != 1:
            continue
        last = norm.source()
        if last.op == "transpose" and last.value("axes") == (0, 2, 3, 1):
            norm.op, norm.inputs[0] = "layer_norm", last.inputs[0]
            graph.replace(back, norm)
            uses[id(norm)] = uses[id(back)]
            changed += 1
    return changed
