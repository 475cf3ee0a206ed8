# SPDX-License-Identifier: Apache-2.0
"""Dense layers in a training graph: those that the native operator supports."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from .ir import Node

# The attributes that the operator supports; the layers of a stage share eps and momentum.
BATCH_NORM = {"fix_gamma": "False", "use_global_stats": "False", "axis": "1"}
CONV = {"no_bias": "True", "num_group": "1", "stride": "(1, 1)", "dilate": "(1, 1)"}
CONV1X1 = {**CONV, "kernel": "(1, 1)", "pad": "(0, 0)"}
CONV3X3 = {**CONV, "kernel": "(3, 3)", "pad": "(1, 1)"}
POOL_WINDOW = {"kernel": "(2, 2)", "stride": "(2, 2)", "pad": "(0, 0)", "global_pool": "False"}
POOL = {**POOL_WINDOW, "pool_type": "avg", "pooling_convention": "valid"}
PRE_ACTIVATION, TWO_WAY = "pre_activation", "two_way"  # the operator's kinds of layers
# Operators whose output has no negative value if their inputs have none.
KEEP_SIGN = ("Pooling", "Concat", "slice_axis", "expand_dims", "squeeze", "Dropout")

Uses = Mapping[int, int]  # of each node by its id


@dataclasses.dataclass(eq=False)
class Unit:
    """BN-ReLU with an optional convolution behind it, or Conv-BN-ReLU.

    ``nodes`` are the normalization and the convolution, in their order.
    """

    nodes: list[Node]
    norm: Node
    conv: Node | None = None

    @property
    def source(self) -> tuple[Node, int]:
        """The input."""
        return self.nodes[0].inputs[0]

    @property
    def parameters(self) -> list[tuple[Node, int]]:
        """Parameters in the order of the operator's inputs."""
        return [entry for node in self.nodes for entry in node.inputs[1:]]

    @property
    def norm_settings(self) -> tuple[str, str]:
        """``eps`` and ``momentum``, which are equal for all normalizations of a stage."""
        return self.norm.attrs.get("eps", "0.001"), self.norm.attrs.get("momentum", "0.9")

    @property
    def filters(self) -> int:
        """Number of filters; 0 without a convolution."""
        return int(self.conv.attrs["num_filter"]) if self.conv else 0


@dataclasses.dataclass(eq=False)
class Layer:
    """A dense layer: its units and the concatenation at its end.

    ``source_uses`` is how often the input is used: by the first units and the concatenation.
    ``bottleneck`` and ``growth`` are the channels that all 1x1 convolutions and the layer make.
    """

    kind: str
    units: list[Unit]
    concat: Node
    source_uses: int
    bottleneck: int
    growth: int

    @property
    def settings(self) -> tuple[object, ...]:
        """What is equal for all layers of a stage."""
        return self.kind, self.bottleneck, self.growth, self.units[0].norm_settings


def norm_act_conv(node: Node, supported: dict[str, str], uses: Uses) -> Unit | None:
    """Match the unit that ends with a supported convolution or, without one, with a ReLU."""
    conv = node if node.is_like("Convolution", **supported) else None
    relu = node.source() if conv else node
    if not relu.is_like("Activation", act_type="relu") or (conv and uses[id(relu)] > 1):
        return None
    norm = relu.source()
    if not norm.is_like("BatchNorm", **BATCH_NORM) or uses[id(norm)] > 1:
        return None
    return Unit([norm, conv], norm, conv) if conv else Unit([norm], norm)


def conv_norm_act(
    node: Node, supported: dict[str, str], uses: Uses, slope: float = 0.0
) -> Unit | None:
    """Match the unit of a supported convolution that ends with a ReLU of this slope."""
    is_relu = relu_slope(node) == slope and uses[id(node.source())] == 1
    return conv_norm(node.source(), supported, uses) if is_relu else None


def relu_slope(node: Node) -> float | None:
    """Return the slope of a ReLU for negative values, from 0 to 1; None for other operators."""
    if node.is_like("Activation", act_type="relu"):
        return 0.0
    slope = float(node.attrs.get("slope", 0.25)) if node.op == "LeakyReLU" else -1.0
    return slope if node.is_like("LeakyReLU", act_type="leaky") and 0 <= slope <= 1 else None


def conv_norm(norm: Node, supported: dict[str, str], uses: Uses) -> Unit | None:
    """Match the unit of a supported convolution that ends with its normalization."""
    if not norm.is_like("BatchNorm", **BATCH_NORM):
        return None
    conv = norm.source()
    if not conv.is_like("Convolution", **supported) or uses[id(conv)] > 1:
        return None
    return Unit([conv, norm], norm, conv)


def dense_layer(node: Node, uses: Uses) -> Layer | None:
    """Match the layer that ends with a concatenation."""
    concat = match_concat(node, uses)
    if concat is None or uses[id(concat.source(1))] > 1:
        return None
    source, (new, _) = concat.inputs
    layer = _pre_activation_layer(node, source, new, uses)
    layer = layer or _two_way_layer(node, source, new, uses)
    same = layer and len({unit.norm_settings for unit in layer.units}) == 1
    return layer if same else None


def match_concat(node: Node, uses: Uses) -> Node | None:
    """Match the concatenation of two feature maps, with the detour of ``blocks.concat``."""
    concat = node
    if node.op == "squeeze" and node.source().op == "expand_dims":
        concat = node.source().source()
        if uses[id(concat)] > 1 or uses[id(node.source())] > 1:
            return None
    return concat if concat.is_like("Concat", dim="1") and len(concat.inputs) == 2 else None


def _pre_activation_layer(
    node: Node, source: tuple[Node, int], new: Node, uses: Uses
) -> Layer | None:
    """Match DenseNet's layer, with or without a bottleneck."""
    last = norm_act_conv(new, CONV3X3, uses)
    if not last or not last.conv:
        return None
    if last.source == source:
        return Layer(PRE_ACTIVATION, [last], node, 2, 0, last.filters)
    bottleneck = last.source[0]
    first = norm_act_conv(bottleneck, CONV1X1, uses)
    if not first or not first.conv or uses[id(bottleneck)] > 1 or first.source != source:
        return None
    return Layer(PRE_ACTIVATION, [first, last], node, 2, first.filters, last.filters)


def _two_way_layer(node: Node, source: tuple[Node, int], new: Node, uses: Uses) -> Layer | None:
    """Match PeleeNet's layer: half of its feature maps are of each branch."""
    branches = match_concat(new, uses)
    if branches is None:
        return None
    first, second = (_branch(branch, source, uses) for branch, _ in branches.inputs)
    if len(first) != 2 or len(second) != 3:
        return None
    width, half = (unit.filters for unit in first)
    growth = half + second[-1].filters
    if [unit.filters for unit in second] != [width, growth - half, growth - half]:
        return None
    if half != growth // 2 or not is_non_negative(source[0]):
        return None
    return Layer(TWO_WAY, first + second, node, 3, 2 * width, growth)


def _branch(node: Node, source: tuple[Node, int], uses: Uses) -> list[Unit]:
    """Match 3x3 convolutions behind a 1x1 convolution of the source; empty without a match."""
    units: list[Unit] = []
    while uses[id(node)] == 1 and len(units) < 3:
        unit = conv_norm_act(node, CONV3X3, uses) or conv_norm_act(node, CONV1X1, uses)
        if not unit or not unit.conv:
            return []
        units.insert(0, unit)
        if unit.conv.is_like("Convolution", **CONV1X1):
            return units if unit.source == source else []
        node = unit.source[0]
    return []


def is_non_negative(node: Node) -> bool:
    """Return whether a feature map is a ReLU's, or made of such by what keeps the sign."""
    if node.op in KEEP_SIGN:
        return all(is_non_negative(source) for source, _ in node.inputs)
    return node.is_like("Activation", act_type="relu")
