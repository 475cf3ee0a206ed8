# SPDX-License-Identifier: Apache-2.0
"""A network cut in two at a feature map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, Callable, Optional

import mxnet as mx
from mxnet import gluon
from mxnet.gluon import nn
from mxnet.ndarray import NDArray

from ..blocks.head import mean_max_logits
from ..errors import check_known
from ..graph.ir import Graph, Node
from ..graph.trace import trace
from .grid import Grid, find_grid

# Blocks at the end of `features` that come after the last feature map.
POOLINGS = (nn.GlobalAvgPool2D, nn.AvgPool2D, nn.GlobalMaxPool2D, nn.MaxPool2D)
HEAD = (*POOLINGS, nn.Flatten, nn.Dropout, nn.Dense)
# Operators of exports after the classifier, and between it and the pooling.
SOFTMAX = ("softmax", "sigmoid")
VIEWS = ("Flatten", "Dropout", "Reshape", "squeeze")


@dataclass(frozen=True)
class Cut:
    """The two parts of a network, below and above a feature map.

    Parameters
    ----------
    lower
        Images to the feature map (N, C, h, w).
    upper
        The feature map to logits (N, classes).
    weight
        Returns the classifier's weight (classes, C), if all that is above the feature map is a mean
        over all positions and this linear layer; else None.
    grid
        Positions of the cells of the feature map.
    """

    lower: Callable[[NDArray], NDArray]
    upper: Callable[[NDArray], NDArray]
    weight: Optional[Callable[[], NDArray]]
    grid: Grid


def stage_names(net: gluon.Block) -> list[str]:
    """Return the names of the blocks after which :func:`cut` can cut a network."""
    children = net.features._children
    return [name for name, block in children.items() if not isinstance(block, HEAD)]


def cut(net: gluon.Block, stage: str | None, ctx: mx.Context | None = None) -> Cut:
    """Cut a network after a block of its ``features``.

    Parameters
    ----------
    net
        A block of ``features``, a sequence of blocks, and ``output``; or a loaded export.
    stage
        Name of the block, such as ``"stage3"``; None for the last feature map.
    ctx
        Device whose copy of the classifier is used.

    Raises
    ------
    ValueError
        If the network has no such parts, or no block of this name.
    """
    if isinstance(net, gluon.SymbolBlock):
        return _cut_export(net, stage, ctx)
    features, output = getattr(net, "features", None), getattr(net, "output", None)
    if not isinstance(features, (nn.HybridSequential, nn.Sequential)) or output is None:
        raise ValueError(
            f"{type(net).__name__} has no feature maps to explain: use a network with `features`, "
            "a sequence of blocks, and `output`, as those of gluondense.get_model; of exports "
            "those with target='portable'."
        )
    if stage is not None:
        check_known("stage", stage, stage_names(net))
    children = list(features._children.items())
    last = stage or stage_names(net)[-1]
    position = [name for name, _ in children].index(last) + 1
    below, above = (
        [block for _, block in part] for part in (children[:position], children[position:])
    )

    def lower(x: Any) -> Any:
        return run(below, x)

    def upper(x: NDArray) -> NDArray:
        pooled = run(above, x)
        if getattr(getattr(net, "spec", None), "pool", "avg") == "mean_max":
            return mean_max_logits(mx.nd, pooled, output)
        return output(pooled)

    weight = partial(output.weight.data, ctx) if _is_mean(above, net) else None
    return Cut(lower, upper, weight, find_grid(trace(lower)))


def run(blocks: Sequence[gluon.Block], x: Any) -> Any:
    """Apply blocks one after the other."""
    return reduce(lambda x, block: block(x), blocks, x)


def _is_mean(above: Sequence[gluon.Block], net: gluon.Block) -> bool:
    """Return whether blocks and output are a mean over all positions and one linear layer."""
    pools = [block for block in above if not isinstance(block, (nn.Flatten, nn.Dropout))]
    return (
        len(pools) == 1
        and isinstance(pools[0], nn.GlobalAvgPool2D)
        and isinstance(net.output, nn.Dense)
        and net.output.act is None
    )


def _cut_export(net: gluon.SymbolBlock, stage: str | None, ctx: mx.Context | None) -> Cut:
    if stage is not None:
        raise ValueError(
            f"stage (={stage!r}) is for networks; an export has only its last feature map: explain "
            "the run or the weights."
        )
    (source,), symbol = net._cached_graph
    data = source.name
    ends = _mean_and_linear(Graph(symbol, {}))
    if ends is None:
        target = getattr(getattr(net, "metadata", None), "target", None)
        raise ValueError(
            f"a graph of target={target!r} has no feature maps to explain: explain the run or the "
            "weights, or an export with target='portable' whose output is not features."
        )
    mean, linear = ends
    feature_map = symbol.get_internals()[f"{mean.source().name}_output"]
    parameters = net.collect_params()

    def values(node: Node) -> NDArray:
        while node.op == "Cast":  # stored as float16
            node = node.source()
        return parameters[node.name].data(ctx).astype("float32")

    operator = mx.nd.CachedOp(feature_map, [])

    def lower(x: NDArray) -> NDArray:
        names = feature_map.list_inputs()
        return operator(*(x if name == data else parameters[name].data(ctx) for name in names))

    def upper(x: NDArray) -> NDArray:
        arrays = [values(source) for source, _ in linear.inputs[1:]]
        options = {"num_hidden": len(arrays[0]), "no_bias": len(arrays) == 1}
        return mx.nd.FullyConnected(x.mean(axis=(2, 3)), *arrays, **options)

    return Cut(lower, upper, lambda: values(linear.source(1)), find_grid(feature_map, data))


def _mean_and_linear(graph: Graph) -> Optional[tuple[Node, Node]]:
    """Return the pooling over all positions and the linear layer that end a graph, or None."""
    node = graph.heads[0][0]
    while node.op in SOFTMAX:
        node = node.source()
    linear = node
    if linear.op != "FullyConnected":
        return None
    node = linear.source()
    while node.op in VIEWS:
        node = node.source()
    is_mean = node.is_like("Pooling", pool_type="avg") and node.flag("global_pool")
    return (node, linear) if is_mean else None
