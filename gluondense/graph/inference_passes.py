"""Graph passes: each makes a graph cheaper, keeps its outputs, and says how many nodes it changed.

They are for inference: batch normalizations use their moving averages, dropout does nothing.
"""

from __future__ import annotations

import ast

import numpy as np

from .ir import Graph, Node, Pass


def remove_identities(graph: Graph) -> int:
    """Leave out what does nothing in inference: dropout, and the detour of ``blocks.concat``."""
    changed = 0
    for node in graph.operators():
        # Dropout of mode "always" is meant to go on in inference.
        if node.is_like("Dropout", mode="training") or node.op == "_copy":
            graph.replace(node, *node.inputs[0])
            changed += 1
        elif node.op == "squeeze" and _undoes(node, node.source()):
            graph.replace(node, *node.source().inputs[0])
            changed += 1
    return changed


def _undoes(squeeze: Node, node: Node) -> bool:
    return node.is_like("expand_dims", axis=squeeze.attrs.get("axis", "").strip("(,)"))


def flatten_concats(graph: Graph) -> int:
    """Let a concatenation read the parts of another one, where that saves a copy.

    In a dual-path block both the dense path and the block's input are concatenations of nearly the
    same maps; only the second is computed with.
    """
    changed, readers = 0, graph.readers()

    def only_concatenated(node: Node) -> bool:
        return all(reader.op == "Concat" for reader in readers[id(node)])

    for node in graph.operators():
        if node.op != "Concat":
            continue
        inputs = []
        for entry in node.inputs:
            source = entry[0]
            nested = source.op == "Concat" and source.attrs.get("dim", "1") == node.attrs.get(
                "dim", "1"
            )
            inputs += source.inputs if nested and only_concatenated(source) else [entry]
        if len(inputs) > len(node.inputs):
            node.inputs = inputs
            node.attrs["num_args"] = str(len(inputs))
            changed += 1
    return changed


def pool_first(graph: Graph) -> int:
    """Pool before a 1x1 convolution instead of behind it, which leaves it a quarter of the pixels.

    Both are linear and neither mixes what the other does, so they commute. Where the pooling stands
    behind a concatenation of such convolutions and other maps, each part is pooled by itself.
    """
    changed = 0
    for pool in graph.operators():
        while _average_pool(pool) and _pool_first_once(graph, pool):
            changed += 1
    return changed


def _pool_first_once(graph: Graph, pool: Node) -> bool:
    uses, source = graph.uses(), pool.source()
    if uses[id(source)] != 1:
        return False
    if _pointwise(source):
        # The pooling's node takes the place in front, so that a loop can move it on.
        graph.replace(pool, source)
        pool.inputs, source.inputs[0] = [source.inputs[0]], (pool, 0)
        return True
    movable = (node for node, _ in source.inputs if _pointwise(node) and uses[id(node)] == 1)
    if source.is_like("Concat") and source.attrs.get("dim", "1") == "1" and any(movable):
        graph.replace(pool, source)
        source.inputs = [
            (Node("Pooling", f"{pool.name}_part{index}", dict(pool.attrs), [entry]), 0)
            for index, entry in enumerate(source.inputs)
        ]
        for part, _ in source.inputs:
            _pool_first_once(graph, part)
        return True
    return False


def _average_pool(node: Node) -> bool:
    whole = {"global_pool": "False", "pooling_convention": "valid"}  # no window hangs over the edge
    return node.is_like("Pooling", pool_type="avg", **whole) and _pair(node, "pad", 0) == (0, 0)


def _pointwise(node: Node) -> bool:
    """Whether this is a 1x1 convolution of stride 1."""
    return (
        node.op == "Convolution"
        and _pair(node, "kernel") == (1, 1)
        and _pair(node, "stride") == (1, 1)
        and _pair(node, "pad", 0) == (0, 0)
    )


def _pair(node: Node, attr: str, default: int = 1) -> tuple[int, int]:
    return ast.literal_eval(node.attrs.get(attr, "()")) or (default, default)


def fold_batch_norms(graph: Graph) -> int:
    """Put a batch normalization that stands behind a convolution into its filters and bias."""
    changed, uses = 0, graph.uses()
    for norm in graph.operators():
        if not norm.is_like("BatchNorm", axis="1"):
            continue
        conv = norm.source()
        if conv.op != "Convolution" or uses[id(conv)] != 1:
            continue
        scale, shift = batch_norm_line(graph, norm)
        weight = graph.array(conv, 1)
        bias = graph.array(conv, 2) if len(conv.inputs) > 2 else 0.0
        conv.inputs = [
            conv.inputs[0],
            (graph.variable(f"{conv.name}_weight", (weight.T * scale).T), 0),
            (graph.variable(f"{conv.name}_bias", shift + scale * bias), 0),
        ]
        conv.attrs["no_bias"] = "False"
        graph.replace(norm, conv)
        uses[id(conv)] = uses[id(norm)]
        changed += 1
    return changed


def batch_norm_line(graph: Graph, norm: Node) -> tuple[np.ndarray, np.ndarray]:
    """Return scale and shift of each channel: in inference the normalization is a straight line."""
    gamma, beta, mean, variance = (
        graph.array(norm, index).astype("float64") for index in range(1, 5)
    )
    if norm.attrs.get("fix_gamma", "True") in ("True", "1"):
        gamma = np.ones_like(gamma)
    scale = gamma / np.sqrt(variance + float(norm.attrs.get("eps", 1e-3)))
    dtype = graph.array(norm, 1).dtype
    return scale.astype(dtype), (beta - mean * scale).astype(dtype)


def split_convolutions(graph: Graph) -> int:
    """Make two convolutions of one whose output is cut in two by channels.

    A dual-path block's last convolution feeds both paths. Two of them write each path's maps where
    they are read, and oneDNN adds the residual path as it writes.
    """
    changed, all_readers = 0, graph.readers()
    for conv in graph.operators():
        if conv.op != "Convolution" or conv.attrs.get("num_group", "1") != "1":
            continue
        readers = all_readers[id(conv)]
        if len(readers) < 2 or any(not n.is_like("slice_axis", axis="1") for n in readers):
            continue
        for reader in readers:
            _become_part(graph, reader, conv)
        changed += 1
    return changed


def _become_part(graph: Graph, cut: Node, conv: Node) -> None:
    begin, end = (ast.literal_eval(cut.attrs[key]) for key in ("begin", "end"))
    arrays = [graph.array(conv, index)[begin:end] for index in range(1, len(conv.inputs))]
    variables = [
        (graph.variable(f"{cut.name}_{kind}", array), 0)
        for kind, array in zip(("weight", "bias"), arrays)
    ]
    cut.op, cut.inputs = "Convolution", [conv.inputs[0], *variables]
    cut.attrs = {**conv.attrs, "num_filter": str(len(arrays[0]))}


def fuse_batch_norm_relu(graph: Graph) -> int:
    """Make one operator of a batch normalization and the ReLU behind it (oneDNN only)."""
    changed, uses = 0, graph.uses()
    for relu in graph.operators():
        if not relu.is_like("Activation", act_type="relu"):
            continue
        norm = relu.source()
        if norm.op == "BatchNorm" and uses[id(norm)] == 1:
            norm.op = "_contrib_BatchNormWithReLU"
            graph.replace(relu, norm)
            changed += 1
    return changed


PASSES: dict[str, Pass] = {
    function.__name__: function
    for function in (
        remove_identities,
        flatten_concats,
        split_convolutions,
        pool_first,
        fold_batch_norms,
        fuse_batch_norm_relu,
    )
}
