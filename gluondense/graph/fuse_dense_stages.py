"""A network's graph for training on a CPU: its dense stages as one operator each."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import mxnet as mx

from .ir import Graph, Node
from .onednn_layouts import suit_onednn

# What the operator has steps for; its layers share the rest.
STAGE = "gluondense_dense_stage"  # the native operator that trains one
NORM = {"fix_gamma": "False", "use_global_stats": "False", "axis": "1"}
CONV = {"no_bias": "True", "num_group": "1", "stride": "(1, 1)", "dilate": "(1, 1)"}
SIDES = ({"kernel": "(1, 1)", "pad": "(0, 0)"}, {"kernel": "(3, 3)", "pad": "(1, 1)"})
POOL = {
    "pool_type": "avg",
    "kernel": "(2, 2)",
    "stride": "(2, 2)",
    "pad": "(0, 0)",
    "global_pool": "False",
    "pooling_convention": "valid",
}


@dataclasses.dataclass(eq=False)
class Unit:
    """BN-ReLU, and the convolution behind it unless that is None."""

    norm: Node
    conv: Node | None

    @property
    def settings(self) -> tuple[str, str]:
        """What the normalizations of a stage share."""
        return self.norm.attrs.get("eps", "0.001"), self.norm.attrs.get("momentum", "0.9")

    @property
    def width(self) -> int:
        """Number of filters."""
        return int(self.conv.attrs["num_filter"]) if self.conv else 0

    @property
    def arrays(self) -> list[tuple[Node, int]]:
        """Variables in the operator's order."""
        return self.norm.inputs[1:] + (self.conv.inputs[1:] if self.conv else [])


@dataclasses.dataclass(eq=False)
class Layer:
    """A dense layer: its units, what it reads, and the node that appends its maps to that."""

    units: list[Unit]
    source: tuple[Node, int]
    join: Node

    @property
    def shape(self) -> tuple[int, ...]:
        """What the layers of a stage share: filters of each convolution."""
        return tuple(unit.width for unit in self.units)


def fuse_stages(
    symbol: mx.sym.Symbol, added: Collection[str] = (), recompute: bool = False
) -> mx.sym.Symbol:
    """Put the native operator in place of dense layers, with the transition behind them.

    What it has no steps for stays, with layouts that oneDNN is fast in: dropout, groups, biases,
    attention.

    Parameters
    ----------
    symbol
        The graph, as Gluon traces it.
    added
        Variables whose gradients are added up (``grad_req="add"``). MXNet does not tell operators
        of libraries to add, so a copy, which it tells, stands in front.
    recompute
        Whether backward computes the bottlenecks again instead of keeping them.
    """
    graph = Graph(symbol, {})
    uses, readers = graph.uses(), graph.readers()
    rows = [
        (stage, *_tail(stage[-1].join, uses, readers, stage[0].units[0].settings))
        for stage in _stages(graph, uses, readers)
    ]
    taken = {id(end) for *_, end in rows}
    for node in graph.operators():  # a transition behind something else
        unit = _unit(node.source(), SIDES[0], uses) if node.is_like("Pooling", **POOL) else None
        if unit and uses[id(node.source())] == 1 and id(node) not in taken:
            rows.append(([], unit, node))
    copies: dict[str, Node] = {}
    for stage, tail, end in rows:
        new = _stage_node(stage, tail, end, recompute)
        new.inputs = [(_copied(node, added, copies), output) for node, output in new.inputs]
        graph.replace(end, new)
    suit_onednn(graph)
    return mx.sym.load_json(graph.to_json())


def _unit(node: Node, side: dict[str, str], uses: dict[int, int]) -> Unit | None:
    """Return what ends at a convolution or, where that isn't one, at a ReLU."""
    conv = node if node.is_like("Convolution", **CONV, **side) else None
    relu = node.source() if conv else node
    if not relu.is_like("Activation", act_type="relu") or (conv and uses[id(relu)] > 1):
        return None
    norm = relu.source()
    return Unit(norm, conv) if norm.is_like("BatchNorm", **NORM) and uses[id(norm)] == 1 else None


def _layer(join: Node, uses: dict[int, int]) -> Layer | None:
    """Return the dense layer whose maps a node appends to its input."""
    concat = join
    if join.op == "squeeze" and join.source().op == "expand_dims":  # the detour of blocks.concat
        concat = join.source().source()
        if uses[id(concat)] > 1 or uses[id(join.source())] > 1:
            return None
    if not concat.is_like("Concat", dim="1") or len(concat.inputs) != 2:
        return None
    old, (new, _) = concat.inputs
    second = _unit(new, SIDES[1], uses)
    if not second or not second.conv or uses[id(new)] > 1:
        return None
    units = [second]
    middle = second.norm.source()
    if second.norm.inputs[0] != old:
        first = _unit(middle, SIDES[0], uses)
        if not first or not first.conv or uses[id(middle)] > 1:
            return None
        units = [first, second]
    same = units[0].settings == units[-1].settings
    return Layer(units, old, join) if same and units[0].norm.inputs[0] == old else None


def _stages(
    graph: Graph, uses: dict[int, int], readers: dict[int, list[Node]]
) -> list[list[Layer]]:
    """Return the dense layers, as many together as read nothing but each other's maps."""
    stages: list[list[Layer]] = []
    open_at: dict[int, list[Layer]] = {}  # by the node that the next layer reads
    for node in graph.operators():
        layer = _layer(node, uses)
        if layer is None or any(reader.op == "expand_dims" for reader in readers[id(node)]):
            continue
        source = layer.source[0]
        stage = open_at.get(id(source))
        alike = stage and (stage[0].shape, stage[0].units[0].settings) == (
            layer.shape,
            layer.units[0].settings,
        )
        if stage is None or not alike or uses[id(source)] != 2:  # its normalization and its joining
            stage = []
            stages.append(stage)
        stage.append(layer)
        open_at[id(node)] = stage
    return stages


def _tail(
    join: Node, uses: dict[int, int], readers: dict[int, list[Node]], settings: tuple[str, str]
) -> tuple[Unit | None, Node]:
    """Return what stands behind a stage and can run with it, and the last node of both."""

    def only_reader(node: Node) -> Node | None:
        return readers[id(node)][0] if uses[id(node)] == 1 and readers[id(node)] else None

    norm = only_reader(join)
    relu = norm and only_reader(norm)
    unit = _unit(relu, SIDES[0], uses) if relu else None
    if not relu or not unit or unit.settings != settings:
        return None, join
    conv = only_reader(relu)
    behind = _unit(conv, SIDES[0], uses) if conv else None
    if not conv or not behind or not behind.conv:
        return unit, relu
    pool = only_reader(conv)
    return behind, pool if pool and pool.is_like("Pooling", **POOL) else conv


def _stage_node(stage: list[Layer], tail: Unit | None, end: Node, recompute: bool) -> Node:
    first = stage[0].units[0] if stage else tail
    assert first is not None
    eps, momentum = first.settings
    shape = stage[0].shape if stage else (0,)
    attrs = {
        "layers": len(stage),
        "growth": shape[-1],
        "middle": shape[0] if len(shape) > 1 else 0,
        "tail": "maps" if tail is None else "conv" if tail.conv else "norm",
        "out_channels": tail.width if tail else 0,
        "pool": int(end.op == "Pooling"),
        "recompute": int(recompute),
        "eps": eps,
        "momentum": momentum,
    }
    inputs = [first.norm.inputs[0]]
    for unit in [unit for layer in stage for unit in layer.units] + ([tail] if tail else []):
        inputs += unit.arrays
    return Node(STAGE, end.name, {key: str(value) for key, value in attrs.items()}, inputs)


def _copied(node: Node, added: Collection[str], copies: dict[str, Node]) -> Node:
    if node.op != "null" or node.name not in added:
        return node
    if node.name not in copies:
        copies[node.name] = Node("_copy", f"{node.name}_copy", {}, [(node, 0)])
    return copies[node.name]
