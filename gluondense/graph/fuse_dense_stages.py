# SPDX-License-Identifier: Apache-2.0
"""Fuse the dense stages of a training graph into one native operator each."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import mxnet as mx

from .ir import Graph, Node
from .onednn_layouts import use_onednn_layouts

STAGE = "gluondense_dense_stage"  # the native operator that trains a dense stage
# The attributes that the operator supports; the layers of a stage share eps and momentum.
BATCH_NORM = {"fix_gamma": "False", "use_global_stats": "False", "axis": "1"}
CONV = {"no_bias": "True", "num_group": "1", "stride": "(1, 1)", "dilate": "(1, 1)"}
CONV1X1 = {**CONV, "kernel": "(1, 1)", "pad": "(0, 0)"}
CONV3X3 = {**CONV, "kernel": "(3, 3)", "pad": "(1, 1)"}
POOL_WINDOW = {"kernel": "(2, 2)", "stride": "(2, 2)", "pad": "(0, 0)", "global_pool": "False"}
POOL = {**POOL_WINDOW, "pool_type": "avg", "pooling_convention": "valid"}


@dataclasses.dataclass(eq=False)
class Unit:
    """BN-ReLU with an optional convolution."""

    norm: Node
    conv: Node | None

    @property
    def norm_settings(self) -> tuple[str, str]:
        """``eps`` and ``momentum``, which are equal for all normalizations of a stage."""
        return self.norm.attrs.get("eps", "0.001"), self.norm.attrs.get("momentum", "0.9")

    @property
    def filters(self) -> int:
        """Number of filters; 0 without a convolution."""
        return int(self.conv.attrs["num_filter"]) if self.conv else 0

    @property
    def parameters(self) -> list[tuple[Node, int]]:
        """Parameters in the order of the operator's inputs."""
        return self.norm.inputs[1:] + (self.conv.inputs[1:] if self.conv else [])


@dataclasses.dataclass(eq=False)
class Layer:
    """A dense layer: its one or two units, its input, and the concatenation at its end."""

    units: list[Unit]
    source: tuple[Node, int]
    concat: Node

    @property
    def settings(self) -> tuple[object, ...]:
        """What is equal for all layers of a stage."""
        return tuple(unit.filters for unit in self.units), self.units[0].norm_settings


def fuse_stages(
    symbol: mx.sym.Symbol, added: Collection[str] = (), recompute: bool = False
) -> mx.sym.Symbol:
    """Replace dense layers, and the transitions behind them, by the native operator.

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
    """
    graph = Graph(symbol, {})
    uses, readers = graph.uses(), graph.readers()
    stages = [
        (layers, *_tail(layers[-1].concat, uses, readers, layers[0].units[0].norm_settings))
        for layers in _stages(graph, uses, readers)
    ]
    fused = {id(end) for *_, end in stages}
    for node in graph.operators():  # transitions that do not follow a dense layer
        unit = _unit(node.source(), CONV1X1, uses) if node.is_like("Pooling", **POOL) else None
        if unit and uses[id(node.source())] == 1 and id(node) not in fused:
            stages.append(([], unit, node))
    copies: dict[str, Node] = {}
    for layers, tail, end in stages:
        stage = _stage_node(layers, tail, end, recompute)
        stage.inputs = [(_copied(node, added, copies), output) for node, output in stage.inputs]
        graph.replace(end, stage)
    use_onednn_layouts(graph)
    return mx.sym.load_json(graph.to_json())


def _unit(node: Node, supported: dict[str, str], uses: dict[int, int]) -> Unit | None:
    """Match the unit that ends with a supported convolution or, without one, with a ReLU."""
    conv = node if node.is_like("Convolution", **supported) else None
    relu = node.source() if conv else node
    if not relu.is_like("Activation", act_type="relu") or (conv and uses[id(relu)] > 1):
        return None
    norm = relu.source()
    matches = norm.is_like("BatchNorm", **BATCH_NORM) and uses[id(norm)] == 1
    return Unit(norm, conv) if matches else None


def _layer(node: Node, uses: dict[int, int]) -> Layer | None:
    """Match the dense layer that ends with a concatenation."""
    concat = node
    if node.op == "squeeze" and node.source().op == "expand_dims":  # the detour of blocks.concat
        concat = node.source().source()
        if uses[id(concat)] > 1 or uses[id(node.source())] > 1:
            return None
    if not concat.is_like("Concat", dim="1") or len(concat.inputs) != 2:
        return None
    source, (new, _) = concat.inputs
    last = _unit(new, CONV3X3, uses)
    if not last or not last.conv or uses[id(new)] > 1:
        return None
    units = [last]
    if last.norm.inputs[0] != source:
        bottleneck = last.norm.source()
        first = _unit(bottleneck, CONV1X1, uses)
        if not first or not first.conv or uses[id(bottleneck)] > 1:
            return None
        units = [first, last]
    same = units[0].norm_settings == units[-1].norm_settings
    return Layer(units, source, node) if same and units[0].norm.inputs[0] == source else None


def _stages(
    graph: Graph, uses: dict[int, int], readers: dict[int, list[Node]]
) -> list[list[Layer]]:
    """Group the dense layers into chains in which each layer reads the one before it."""
    stages: list[list[Layer]] = []
    open_at: dict[int, list[Layer]] = {}  # by the node that the next layer reads
    for node in graph.operators():
        layer = _layer(node, uses)
        if layer is None or any(reader.op == "expand_dims" for reader in readers[id(node)]):
            continue
        source = layer.source[0]
        stage = open_at.get(id(source))
        # Two uses: the normalization and the concatenation of the next layer.
        if stage is None or stage[0].settings != layer.settings or uses[id(source)] != 2:
            stage = []
            stages.append(stage)
        stage.append(layer)
        open_at[id(node)] = stage
    return stages


def _tail(
    end: Node, uses: dict[int, int], readers: dict[int, list[Node]], settings: tuple[str, str]
) -> tuple[Unit | None, Node]:
    """Return the unit behind a stage that the operator can include, and the last node of both."""

    def only_reader(node: Node) -> Node | None:
        return readers[id(node)][0] if uses[id(node)] == 1 and readers[id(node)] else None

    norm = only_reader(end)
    relu = norm and only_reader(norm)
    unit = _unit(relu, CONV1X1, uses) if relu else None
    if not relu or not unit or unit.norm_settings != settings:
        return None, end
    conv = only_reader(relu)
    transition = _unit(conv, CONV1X1, uses) if conv else None
    if not conv or not transition or not transition.conv:
        return unit, relu
    pool = only_reader(conv)
    return transition, pool if pool and pool.is_like("Pooling", **POOL) else conv


def _stage_node(layers: list[Layer], tail: Unit | None, end: Node, recompute: bool) -> Node:
    units = [unit for layer in layers for unit in layer.units] + ([tail] if tail else [])
    eps, momentum = units[0].norm_settings
    filters = [unit.filters for unit in layers[0].units] if layers else [0]
    attrs = {
        "layers": len(layers),
        "growth": filters[-1],
        "middle": filters[0] if len(filters) > 1 else 0,
        "tail": "maps" if tail is None else "conv" if tail.conv else "norm",
        "out_channels": tail.filters if tail else 0,
        "pool": int(end.op == "Pooling"),
        "recompute": int(recompute),
        "eps": eps,
        "momentum": momentum,
    }
    inputs = [units[0].norm.inputs[0], *(entry for unit in units for entry in unit.parameters)]
    return Node(STAGE, end.name, {key: str(value) for key, value in attrs.items()}, inputs)


def _copied(node: Node, added: Collection[str], copies: dict[str, Node]) -> Node:
    if node.op != "null" or node.name not in added:
        return node
    if node.name not in copies:
        copies[node.name] = Node("_copy", f"{node.name}_copy", {}, [(node, 0)])
    return copies[node.name]
