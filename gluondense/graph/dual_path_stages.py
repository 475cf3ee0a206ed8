# SPDX-License-Identifier: Apache-2.0
"""Dual-path stages in a training graph: those that the native operator supports."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from .dense_layers import CONV1X1, CONV3X3, Unit, Uses, match_concat, norm_act_conv
from .ir import Graph, Node

DUAL_PATH_STAGE = "gluondense_dual_path_stage"  # the native operator that trains such a stage
ANY_STRIDE = {key: value for key, value in CONV1X1.items() if key != "stride"}
GROUPED = {key: value for key, value in CONV3X3.items() if key not in ("num_group", "stride")}
STRIDES = ("(1, 1)", "(2, 2)")


@dataclasses.dataclass(eq=False)
class Block:
    """A dual-path block: its three units, and the paths in front of it."""

    units: list[Unit]
    residual: Node
    dense: Node

    @property
    def shape(self) -> tuple[int, ...]:
        """Filters of the units, and the groups of the 3x3 convolution."""
        grouped = self.units[1].conv
        return (*(unit.filters for unit in self.units), grouped.groups if grouped else 0)


@dataclasses.dataclass(eq=False)
class DualPath:
    """A dual-path stage: the projection of its input and its blocks.

    ``end`` is the concatenation of both paths.
    """

    projection: Unit
    blocks: list[Block]
    width: int
    end: Node

    @property
    def units(self) -> list[Unit]:
        """All units in the order of the operator's parameters."""
        return [self.projection, *(unit for block in self.blocks for unit in block.units)]

    def to_node(self) -> Node:
        """Return the native operator."""
        eps, momentum = self.projection.norm_settings
        bottleneck, _, channels, groups = self.blocks[0].shape
        attrs = {
            "blocks": len(self.blocks),
            "stride": 2 if _stride(self.projection) == STRIDES[1] else 1,
            "bottleneck": bottleneck,
            "groups": groups,
            "residual": self.width,
            "increment": channels - self.width,
            "eps": eps,
            "momentum": momentum,
        }
        inputs = [self.projection.source, *(e for unit in self.units for e in unit.parameters)]
        return Node(DUAL_PATH_STAGE, self.end.name, {k: str(v) for k, v in attrs.items()}, inputs)


def dual_path_stages(graph: Graph) -> Iterator[DualPath]:
    """Find the stages that the operator supports."""
    uses = graph.uses()
    for node in graph.operators():
        stage = _stage(node, uses)
        if stage and _is_uniform(stage):
            yield stage


def _stage(end: Node, uses: Uses) -> DualPath | None:
    """Match the stage that ends with a concatenation of its two paths, from its last block on."""
    concat, blocks = match_concat(end, uses), list[Block]()
    while concat and all(uses[id(path)] == (2 if blocks else 1) for path, _ in concat.inputs):
        block = _block(concat.source(0), concat.source(1), uses)
        if block is None:
            return None
        blocks.insert(0, block)
        source = block.units[0].source[0]
        projection = _projection(block, uses)
        if projection:
            return DualPath(projection, blocks, int(block.residual.attrs["end"]), end)
        concat = match_concat(source, uses) if uses[id(source)] == 1 else None
        if concat and [path for path, _ in concat.inputs] != [block.residual, block.dense]:
            return None
    return None


def _block(residual: Node, dense: Node, uses: Uses) -> Block | None:
    """Match the block that adds to one path and appends to the other."""
    concat = match_concat(dense, uses)
    if residual.op != "elemwise_add" or concat is None:
        return None
    (residual, _), (added, _) = residual.inputs
    (dense, _), (appended, _) = concat.inputs
    conv = split_source(added, appended, (1, 1), uses)
    units: list[Unit] = []
    for supported in (CONV1X1, GROUPED, CONV1X1):
        unit = norm_act_conv(conv, supported, uses) if conv else None
        if not unit or not unit.conv or (units and uses[id(conv)] > 1):
            return None
        units.insert(0, unit)
        conv = unit.source[0]
    return Block(units, residual, dense)


def _projection(block: Block, uses: Uses) -> Unit | None:
    """Match the projection from which both paths of the first block start."""
    conv = split_source(block.residual, block.dense, (1, 1), uses)
    unit = norm_act_conv(conv, ANY_STRIDE, uses) if conv else None
    return unit if unit and unit.conv and unit.source == block.units[0].source else None


def split_source(first: Node, second: Node, readers: tuple[int, int], uses: Uses) -> Node | None:
    """Match two slices that split the channels of a node, and have so many readers; return it."""
    if not first.is_like("slice_axis", axis="1", begin="0") or "end" not in first.attrs:
        return None
    rest = {"axis": "1", "begin": first.attrs["end"], "end": "None"}
    if not second.is_like("slice_axis", **rest) or first.inputs != second.inputs:
        return None
    same = (uses[id(first)], uses[id(second)]) == readers and uses[id(first.source())] == 2
    return first.source() if same else None


def _is_uniform(stage: DualPath) -> bool:
    """Return whether all blocks are alike, as the operator requires."""
    bottleneck, grouped, channels, _ = stage.blocks[0].shape
    increment = channels - stage.width
    strides = [_stride(block.units[1]) for block in stage.blocks]
    return (
        len({unit.norm_settings for unit in stage.units}) == 1
        and len({block.shape for block in stage.blocks}) == 1
        and grouped == bottleneck
        and stage.projection.filters == stage.width + 2 * increment
        and strides[0] == _stride(stage.projection)
        and strides[0] in STRIDES
        and set(strides[1:]) <= {STRIDES[0]}
    )


def _stride(unit: Unit) -> str | None:
    return unit.conv.attrs.get("stride", STRIDES[0]) if unit.conv else None
