# SPDX-License-Identifier: Apache-2.0
"""Graph passes for inference: each reduces the cost of a graph and preserves its outputs.

A pass returns the number of nodes that it changed. The passes assume inference: batch
normalization uses its moving averages and dropout is the identity.
"""

from __future__ import annotations

import numpy as np

from .ir import Graph, Node, Pass


def remove_identities(graph: Graph) -> int:
    """Remove dropout, copies, and the expand_dims-squeeze pairs of ``blocks.concat``."""
    changed = 0
    for node in graph.operators():
        # Dropout of mode "always" is also active in inference.
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
    """Replace an input of a concatenation that is itself a concatenation by the inputs of that one.

    It is done if only concatenations read the inner one, which then needs no copy. In a dual-path
    block both the dense path and the input of the block are concatenations of nearly the same
    feature maps, and only the latter is read by other operators.
    """
    changed, readers = 0, graph.readers()

    def is_nested(node: Node, outer: Node) -> bool:
        same_axis = node.attrs.get("dim", "1") == outer.attrs.get("dim", "1")
        only_concatenated = all(reader.op == "Concat" for reader in readers[id(node)])
        return node.op == "Concat" and same_axis and only_concatenated

    for node in graph.operators():
        if node.op != "Concat":
            continue
        inputs = []
        for entry in node.inputs:
            inputs += entry[0].inputs if is_nested(entry[0], node) else [entry]
        if len(inputs) > len(node.inputs):
            node.inputs = inputs
            node.attrs["num_args"] = str(len(inputs))
            changed += 1
    return changed


def pool_first(graph: Graph) -> int:
    """Move average pooling before 1x1 convolutions, which then process a quarter of the pixels.

    Both operators are linear, one over pixels and the other over channels, so they commute. Pooling
    after a concatenation of such convolutions and other feature maps is applied to each part.
    """
    changed = 0
    for pool in graph.operators():
        while _is_average_pool(pool) and _pool_first_once(graph, pool):
            changed += 1
    return changed


def _pool_first_once(graph: Graph, pool: Node) -> bool:
    uses, source = graph.uses(), pool.source()
    if uses[id(source)] != 1:
        return False
    if _is_pointwise(source):
        # Move the node itself, so that the caller's loop can move it again.
        graph.replace(pool, source)
        pool.inputs, source.inputs[0] = [source.inputs[0]], (pool, 0)
        return True
    movable = (node for node, _ in source.inputs if _is_pointwise(node) and uses[id(node)] == 1)
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


def _is_average_pool(node: Node) -> bool:
    # No window extends beyond the edge.
    inside = {"global_pool": "False", "pooling_convention": "valid"}
    return node.is_like("Pooling", pool_type="avg", **inside) and node.pair("pad", 0) == (0, 0)


def _is_pointwise(node: Node) -> bool:
    """Return whether this is a 1x1 convolution of stride 1."""
    window = node.pair("kernel"), node.pair("stride"), node.pair("pad", 0)
    return node.op == "Convolution" and window == ((1, 1), (1, 1), (0, 0))


def fold_batch_norms(graph: Graph) -> int:
    """Fold batch normalization into the filters and the bias of the preceding convolution."""
    changed, uses = 0, graph.uses()
    for norm in graph.operators():
        if not norm.is_like("BatchNorm", axis="1"):
            continue
        conv = norm.source()
        if conv.op != "Convolution" or uses[id(conv)] != 1:
            continue
        scale, shift = batch_norm_affine(graph, norm)
        weight = graph.array(conv, 1)
        bias = graph.array(conv, 2) if len(conv.inputs) > 2 else 0.0
        set_weights(graph, conv, (weight.T * scale).T, shift + scale * bias)
        graph.replace(norm, conv)
        uses[id(conv)] = uses[id(norm)]
        changed += 1
    return changed


def fold_channel_factors(graph: Graph) -> int:
    """Fold constant factors of channels, as layer scale has, into the preceding convolution.

    Behind squeeze-and-excitation the gate is multiplied by them, which has one value per channel.
    """
    changed, uses = 0, graph.uses()
    for product in graph.operators():
        source = product.source()
        if not _has_constant_factors(graph, product) or uses[id(source)] != 1:
            continue
        factors = graph.array(product.source(1), 0)
        if source.op == "Convolution":
            bias = graph.array(source, 2) if len(source.inputs) > 2 else 0.0
            weight = graph.array(source, 1)
            set_weights(graph, source, (weight.T * factors).T, bias * factors)
        elif source.op == "broadcast_mul":
            reshaped = graph.variable(f"{product.name}_factors", factors.reshape(1, -1, 1, 1))
            # MXNet's Module does not infer it from a product.
            reshaped.attrs["__shape__"] = str((1, len(factors), 1, 1))
            gate = [source.inputs[1], (reshaped, 0)]
            source.inputs[1] = Node("broadcast_mul", f"{product.name}_gate", {}, gate), 0
        else:
            continue
        graph.replace(product, source)
        uses[id(source)] = uses[id(product)]
        changed += 1
    return changed


def _has_constant_factors(graph: Graph, node: Node) -> bool:
    if node.op != "broadcast_mul" or not node.source(1).is_like("Reshape", shape="(1, -1, 1, 1)"):
        return False
    return node.source(1).source().name in graph.params


def set_weights(graph: Graph, conv: Node, weight: np.ndarray, bias: np.ndarray) -> None:
    """Give a convolution new variables for its filters and its bias."""
    conv.inputs = [
        conv.inputs[0],
        (graph.variable(f"{conv.name}_weight", weight), 0),
        (graph.variable(f"{conv.name}_bias", bias), 0),
    ]
    conv.attrs["no_bias"] = "False"


def batch_norm_affine(graph: Graph, norm: Node) -> tuple[np.ndarray, np.ndarray]:
    """Return the scale and shift, (C,), that batch normalization applies in inference."""
    gamma, beta, mean, variance = (
        graph.array(norm, index).astype("float64") for index in range(1, 5)
    )
    if norm.flag("fix_gamma", True):
        gamma = np.ones_like(gamma)
    scale = gamma / np.sqrt(variance + float(norm.attrs.get("eps", 1e-3)))
    dtype = graph.array(norm, 1).dtype
    return scale.astype(dtype), (beta - mean * scale).astype(dtype)


def split_convolutions(graph: Graph) -> int:
    """Split a convolution whose output channels are sliced into one convolution per slice.

    The last convolution of a dual-path block feeds both paths. After the split each convolution
    writes its feature maps where they are read, and oneDNN fuses the residual addition.
    """
    changed, all_readers = 0, graph.readers()
    for conv in graph.operators():
        if conv.op != "Convolution" or conv.groups != 1:
            continue
        readers = all_readers[id(conv)]
        if len(readers) < 2 or any(not n.is_like("slice_axis", axis="1") for n in readers):
            continue
        for reader in readers:
            _convolve_slice(graph, reader, conv)
        changed += 1
    return changed


def _convolve_slice(graph: Graph, cut: Node, conv: Node) -> None:
    """Turn a slice of a convolution's output into the convolution that computes it."""
    begin, end = cut.value("begin"), cut.value("end")
    arrays = [graph.array(conv, index)[begin:end] for index in range(1, len(conv.inputs))]
    variables = [
        (graph.variable(f"{cut.name}_{kind}", array), 0)
        for kind, array in zip(("weight", "bias"), arrays)
    ]
    cut.op, cut.inputs = "Convolution", [conv.inputs[0], *variables]
    cut.attrs = {**conv.attrs, "num_filter": str(len(arrays[0]))}


def fuse_batch_norm_relu(graph: Graph) -> int:
    """Fuse batch normalization with the ReLU that follows it (oneDNN only)."""
    changed, uses = 0, graph.uses()
    for relu in graph.operators():
        is_relu = relu.is_like("Activation", act_type="relu")
        if is_relu and (norm := relu.source()).op == "BatchNorm" and uses[id(norm)] == 1:
            norm.op = "_contrib_BatchNormWithReLU"
            graph.replace(relu, norm)
            changed += 1
    return changed


PASSES: dict[str, Pass] = {
    function.__name__: function
    for function in (
        remove_identities,
        fold_channel_factors,
        flatten_concats,
        split_convolutions,
        pool_first,
        fold_batch_norms,
        fuse_batch_norm_relu,
    )
}


def optimize(graph: Graph, skip: str = "") -> Graph:
    """Run all passes in order, except the one named ``skip``, and return the graph."""
    for name, change in PASSES.items():
        if name != skip:
            change(graph)
    return graph
