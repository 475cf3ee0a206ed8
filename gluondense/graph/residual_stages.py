# SPDX-License-Identifier: Apache-2.0
"""CSPResNeXt's stages in a training graph: those that the native operator supports."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from .dense_layers import (
    CONV1X1,
    CONV3X3,
    Unit,
    Uses,
    conv_norm,
    conv_norm_act,
    match_concat,
    relu_slope,
)
from .dual_path_stages import split_source
from .ir import Graph, Node

RESIDUAL_STAGE = "gluondense_residual_stage"  # the native operator that trains such a stage
# Of more than one group: the operator's kernels are for narrow groups.
GROUPED = {key: value for key, value in CONV3X3.items() if key != "num_group"}
DOWN = {**GROUPED, "stride": "(2, 2)"}
KEEP_CHANNELS = ("Activation", "LeakyReLU", "BatchNorm", "Pooling")


@dataclasses.dataclass(eq=False)
class ResidualStage:
    """A stage: ``down``, the expansion, residual blocks on a part of it, and two transitions.

    ``bypass`` is the number of channels that bypass the blocks, and ``end`` the last ReLU.
    """

    down: Unit | None
    expand: Unit
    bypass: int
    blocks: list[list[Unit]]
    partial_transition: Unit
    transition: Unit
    slope: float
    end: Node

    @property
    def units(self) -> list[Unit]:
        """All units in the order of the operator's parameters."""
        first = [self.down, self.expand] if self.down else [self.expand]
        blocks = [unit for block in self.blocks for unit in block]
        return [*first, *blocks, self.partial_transition, self.transition]

    def to_node(self) -> Node:
        """Return the native operator."""
        eps, momentum = self.expand.norm_settings
        attrs = {
            "stride": 2 if self.down else 1,
            "expanded": self.expand.filters,
            "bypass": self.bypass,
            "blocks": len(self.blocks),
            "bottleneck": self.blocks[0][0].filters,
            "groups": _groups(self.blocks[0][1]),
            "out_channels": self.transition.filters,
            "slope": self.slope,
            "eps": eps,
            "momentum": momentum,
        }
        inputs = [self.units[0].source, *(e for unit in self.units for e in unit.parameters)]
        return Node(RESIDUAL_STAGE, self.end.name, {k: str(v) for k, v in attrs.items()}, inputs)


def residual_stages(graph: Graph) -> Iterator[ResidualStage]:
    """Find the stages that the operator supports."""
    uses = graph.uses()
    for node in graph.operators():
        stage = _stage(node, uses)
        if stage and _is_uniform(stage):
            yield stage


def _stage(end: Node, uses: Uses) -> ResidualStage | None:
    """Match the stage that ends with a ReLU, from its transition on."""
    slope = relu_slope(end)
    if slope is None:
        return None
    transition = conv_norm_act(end, CONV1X1, uses, slope)
    concat = match_concat(transition.source[0], uses) if transition else None
    if not transition or not concat or uses[id(transition.source[0])] > 1:
        return None
    (bypass, _), (partial, _) = concat.inputs
    partial_transition = conv_norm_act(partial, CONV1X1, uses, slope)
    if partial_transition is None or uses[id(partial)] > 1 or uses[id(bypass)] > 1:
        return None
    blocks, node = list[list[Unit]](), partial_transition.source[0]
    while uses[id(node)] == (2 if blocks else 1) and (block := _block(node, slope, uses)):
        blocks.insert(0, block)
        node = block[0].source[0]
    expanded = split_source(bypass, node, (1, 2), uses)
    expand = conv_norm(expanded, CONV1X1, uses) if blocks and expanded else None
    if expand is None:
        return None
    down = _down(expand, slope, uses)
    size = int(bypass.attrs["end"])
    return ResidualStage(down, expand, size, blocks, partial_transition, transition, slope, end)


def _block(node: Node, slope: float, uses: Uses) -> list[Unit] | None:
    """Match a bottleneck that is added to its input before a ReLU."""
    if (
        relu_slope(node) != slope
        or node.source().op != "elemwise_add"
        or uses[id(node.source())] > 1
    ):
        return None
    (source, _), (added, _) = node.source().inputs
    c = conv_norm(added, CONV1X1, uses) if uses[id(added)] == 1 else None
    b = _only(c, GROUPED, slope, uses)
    a = _only(b, CONV1X1, slope, uses)
    return [a, b, c] if a and b and c and a.source[0] is source else None


def _only(reader: Unit | None, supported: dict[str, str], slope: float, uses: Uses) -> Unit | None:
    """Match the unit that only another one reads."""
    if reader is None or uses[id(reader.source[0])] > 1:
        return None
    return conv_norm_act(reader.source[0], supported, uses, slope)


def _down(expand: Unit, slope: float, uses: Uses) -> Unit | None:
    """Match the convolution of stride 2 before the expansion, if it keeps the channels."""
    down = _only(expand, DOWN, slope, uses)
    if down is None:
        return None
    node = down.source[0]
    while node.op in KEEP_CHANNELS:
        node = node.source()
    keeps = node.op == "Convolution" and node.attrs["num_filter"] == str(down.filters)
    return down if keeps else None


def _is_uniform(stage: ResidualStage) -> bool:
    """Return whether all blocks are alike, as the operator requires."""
    width = stage.expand.filters - stage.bypass
    bottleneck, grouped, channels = (unit.filters for unit in stage.blocks[0])
    shapes = {tuple(unit.filters for unit in block) for block in stage.blocks}
    grouped_units = [block[1] for block in stage.blocks] + ([stage.down] if stage.down else [])
    return (
        len({unit.norm_settings for unit in stage.units}) == 1
        and len(shapes) == 1
        and len({_groups(unit) for unit in grouped_units}) == 1
        and _groups(grouped_units[0]) > 1
        and bottleneck == grouped
        and channels == width == stage.partial_transition.filters
    )


def _groups(unit: Unit) -> int:
    return unit.conv.groups if unit.conv else 1
