# SPDX-License-Identifier: Apache-2.0
"""The dense stages of a network as graphs, without dropout, and the names of their layers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from mxnet import gluon

from ..graph.ir import Graph, Node
from ..graph.trace import INPUT, trace
from ..models.network import Network
from .channels import LAYERS, Channels, Origin, find_origins
from .cut import run

# Patterns of the operators of our networks, without the network's prefix -> label of the layer.
LABELS = (
    (r"stage\d+_(?:block_)?layer(\d+)_", r"\1"),
    (r"stage\d+_block\d+_projection_", "projection"),
    (r"stage\d+_block(\d+)_", r"\1"),
    (r"stage\d+_transition_", "T"),
    (r"transition\d+_", "U"),
    (r"output_", "classifier"),
)
RESIDUAL = "residual path"
INPUTS = ("x0′", "x0″")  # of a cross-stage partial connection


@dataclass
class DenseStage:
    """A stage with what follows it up to the next one, as a graph of the stage's input.

    Parameters
    ----------
    name
        ``"stage1"`` and so on.
    before, blocks, after
        The children of the network's ``features`` before the stage, from the stage on, and from the
        next stage on. The last of them is the network's ``output``, if it has one.
    in_channels
        Width of the stage's input.
    prefix
        The network's prefix.
    is_csp
        Whether the stage is a cross-stage partial one.
    """

    name: str
    before: list[gluon.Block]
    blocks: list[gluon.Block]
    after: list[gluon.Block]
    in_channels: int
    prefix: str
    is_csp: bool
    graph: Graph = field(init=False)
    origins: dict[int, Origin] = field(init=False)

    def __post_init__(self) -> None:
        self.graph = Graph(trace(lambda x: run(self.blocks, x)), {})
        for node in self.graph.operators():
            if node.op == "Dropout":
                self.graph.replace(node, node.source())
        self.origins = find_origins(self.graph, INPUT, self.in_channels)
        parts = {part for origin in self.origins.values() for part in origin}
        self._is_split = len({p.begin for p in parts if p.node.name == INPUT}) > 1

    @property
    def is_dense(self) -> bool:
        """Whether layers read the feature maps of other dense layers."""
        parts = (self.origins[id(node.source())] for _, node in self.readers())
        return any(self.label(part).isdigit() for origin in parts for part in origin)

    def label(self, part: Channels | Node) -> str:
        """Return the name of a layer, or of the origin of channels."""
        node = part if isinstance(part, Node) else part.node
        if node.name == INPUT:
            begin = part.begin if isinstance(part, Channels) else 0
            return INPUTS[begin > 0] if self._is_split else "input"
        if node.op not in LAYERS:
            return RESIDUAL
        name = node.name[len(self.prefix) :]
        for pattern, label in LABELS:
            found = re.match(pattern, name)
            if found:
                label = found.expand(label)
                return "transition" if label == "U" and not self.is_csp else label
        return name

    def readers(self) -> Iterator[tuple[str, Node]]:
        """Yield the layers that read other layers of the stage, or its input, with their labels.

        The second convolution of a bottleneck, which reads the first one only, is not among them,
        nor is a gate of attention.
        """
        for node in self.graph.operators():
            if node.op not in LAYERS or "_attention_" in node.name or "_se_" in node.name:
                continue
            label = self.label(node)
            origin = self.origins[id(node.source())]
            if {self.label(part) for part in origin} - {label}:
                yield label, node

    def order(self, labels: set[str]) -> list[str]:
        """Sort labels of origins: the input, then the layers in the order of execution."""
        seen = dict.fromkeys(
            self.label(part)
            for node in self.graph.nodes()
            for part in sorted(self.origins[id(node)], key=lambda part: part.begin)
        )
        first = (*INPUTS, "input", "projection", RESIDUAL)
        return [label for label in dict.fromkeys([*first, *seen]) if label in labels]


def dense_stages(net: Network) -> list[DenseStage]:
    """Return the stages of a network whose layers are concatenated.

    Raises
    ------
    ValueError
        If it is not one of our networks, or has no such stages.
    """
    if not isinstance(net, Network):
        raise ValueError(
            f"{type(net).__name__} has no known dense stages: use a network of "
            "gluondense.get_model with its weights; an export has only its graph."
        )
    stages = [stage for stage in _stages(net) if stage.is_dense]
    if not stages:
        raise ValueError(
            f"{net.model_name or type(net).__name__} has no dense stages: its layers are not "
            "concatenated. Use a DenseNet, CSP-DenseNet or DPN."
        )
    return stages


def _stages(net: Network) -> Iterator[DenseStage]:
    children = list(net.features._children.items())
    starts = [index for index, (name, _) in enumerate(children) if name.startswith("stage")]
    blocks = [block for _, block in children]
    for start, end in zip(starts, [*starts[1:], len(children)]):
        widths = [block.out_channels for block in blocks[:start] if hasattr(block, "out_channels")]
        name, block = children[start]
        output = [net.output] if hasattr(net, "output") else []
        is_last = end == len(children)
        yield DenseStage(
            name,
            blocks[:start],
            [*blocks[start:end], *(output if is_last else [])],
            [] if is_last else [*blocks[end:], *output],
            widths[-1],
            net.prefix,
            hasattr(block, "transition"),
        )
