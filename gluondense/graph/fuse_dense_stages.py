# SPDX-License-Identifier: Apache-2.0
"""Fuse the stages and the stem of a training graph into one native operator each."""

from __future__ import annotations

from collections.abc import Collection

import mxnet as mx

from .dense_layers import (
    CONV1X1,
    POOL,
    PRE_ACTIVATION,
    TWO_WAY,
    Layer,
    Unit,
    conv_norm_act,
    dense_layer,
    norm_act_conv,
)
from .dual_path_stages import DualPath, dual_path_stages
from .fuse_stem import find_stem
from .ir import Graph, Node
from .onednn_layouts import use_onednn_layouts
from .partial_stages import Bypass, find_bypass
from .residual_stages import ResidualStage, residual_stages

STAGE = "gluondense_dense_stage"  # the native operator that trains a dense stage


def fuse_stages(
    symbol: mx.sym.Symbol,
    added: Collection[str] = (),
    recompute: bool = False,
    dtype: str = "float32",
    stem: bool = False,
) -> mx.sym.Symbol:
    """Replace dense layers, and the transitions behind them, by the native operator.

    The operator of a cross-stage partial stage also splits its input and concatenates its output.
    Dual-path stages and CSPResNeXt's have operators, too.

    Layers with dropout, groups, biases or attention keep MXNet's operators, with the layouts that
    suit oneDNN.

    Parameters
    ----------
    symbol
        The graph as traced by Gluon.
    added
        Variables whose gradients accumulate (``grad_req="add"``). MXNet does not pass that request
        to operators of extension libraries; it passes it to the copy that is inserted before them.
    recompute
        True recomputes the bottlenecks in backward instead of saving them.
    dtype
        ``"float32"``, or ``"bfloat16"``: what the stages store feature maps in, and multiply 1x1
        convolutions in. Their inputs, outputs and parameters are in float32.
    stem
        True replaces the stem of a network with such stages, too, in the same ``dtype``. The
        gradient of the images is zero then.
    """
    graph = Graph(symbol, {})
    uses, readers = graph.uses(), graph.readers()
    stages: list[tuple[list[Layer], Unit | None, Bypass | None, Node]] = []
    for layers in _stages(graph, uses, readers):
        tail, end = _tail(layers[-1], uses, readers)
        bypass = find_bypass(layers[0], tail, end, uses, readers)
        stages.append((layers, tail, bypass, bypass.end if bypass else end))
    fused = {id(end) for *_, end in stages}
    for node in graph.operators():  # transitions that do not follow a dense layer
        unit = (
            norm_act_conv(node.source(), CONV1X1, uses) if node.is_like("Pooling", **POOL) else None
        )
        if unit and unit.conv and uses[id(node.source())] == 1 and id(node) not in fused:
            stages.append(([], unit, None, node))
    copies: dict[str, Node] = {}

    def replace(end: Node, node: Node) -> None:
        node.attrs.update(recompute=str(int(recompute)), dtype=dtype)
        node.inputs = [(_copied(source, added, copies), output) for source, output in node.inputs]
        graph.replace(end, node)

    others: list[DualPath | ResidualStage] = [
        *dual_path_stages(graph),
        *residual_stages(graph),
    ]
    if stem and (stages or others) and (found := find_stem(graph, uses)):
        replace(*found)
    for layers, tail, bypass, end in stages:  # each reads the operators before it
        replace(end, _stage_node(layers, tail, bypass, end))
    for other in others:
        replace(other.end, other.to_node())
    use_onednn_layouts(graph)
    return mx.sym.load_json(graph.to_json())


def _stages(
    graph: Graph, uses: dict[int, int], readers: dict[int, list[Node]]
) -> list[list[Layer]]:
    """Group the dense layers into chains in which each layer reads the one before it."""
    stages: list[list[Layer]] = []
    open_at: dict[int, list[Layer]] = {}  # by the node that the next layer reads
    for node in graph.operators():
        layer = dense_layer(node, uses)
        if layer is None or any(reader.op == "expand_dims" for reader in readers[id(node)]):
            continue
        source = layer.units[0].source[0]
        stage = open_at.get(id(source))
        same = stage and stage[0].settings == layer.settings
        if not stage or not same or uses[id(source)] != layer.source_uses:
            stage = []
            stages.append(stage)
        stage.append(layer)
        open_at[id(node)] = stage
    return stages


def _tail(
    last: Layer, uses: dict[int, int], readers: dict[int, list[Node]]
) -> tuple[Unit | None, Node]:
    """Return the unit behind a stage that the operator can include, and the last node of both."""
    nodes = [last.concat]  # and those behind it, each the only reader of the one before it
    while len(nodes) < 5 and uses[id(nodes[-1])] == 1 and readers[id(nodes[-1])]:
        nodes += readers[id(nodes[-1])]
    match = conv_norm_act if last.kind == TWO_WAY else norm_act_conv
    for index in (3, 2):
        tail = match(nodes[index], CONV1X1, uses) if len(nodes) > index else None
        if not tail or tail.nodes[0] is not nodes[1]:
            continue
        if tail.norm_settings != last.units[0].norm_settings:
            break
        pool = tail.conv and len(nodes) > index + 1 and nodes[index + 1].is_like("Pooling", **POOL)
        return tail, nodes[index + 1 if pool else index]
    return None, last.concat


def _stage_node(layers: list[Layer], tail: Unit | None, bypass: Bypass | None, end: Node) -> Node:
    units = [unit for layer in layers for unit in layer.units] + ([tail] if tail else [])
    eps, momentum = units[0].norm_settings
    first = layers[0] if layers else None
    attrs = {
        "layer": first.kind if first else PRE_ACTIVATION,
        "layers": len(layers),
        "growth": first.growth if first else 0,
        "middle": first.bottleneck if first else 0,
        "tail": "maps" if tail is None else "conv" if tail.conv else "norm",
        "out_channels": tail.filters if tail else 0,
        "pool": int(end.op == "Pooling"),
        "bypass": bypass.channels if bypass else 0,
        "eps": eps,
        "momentum": momentum,
    }
    source = bypass.source if bypass else units[0].source
    inputs = [source, *(entry for unit in units for entry in unit.parameters)]
    return Node(STAGE, end.name, {key: str(value) for key, value in attrs.items()}, inputs)


def _copied(node: Node, added: Collection[str], copies: dict[str, Node]) -> Node:
    if node.op != "null" or node.name not in added:
        return node
    if node.name not in copies:
        copies[node.name] = Node("_copy", f"{node.name}_copy", {}, [(node, 0)])
    return copies[node.name]
