"""Graph passes for 8 bits: let each channel of a map use all of them.

oneDNN's 8-bit tensors have one scale for all channels. Between a convolution and a batch
normalization there is room for one a channel: the first may write its channels in any unit, from
any zero, if the second reads them so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...graph.inference_passes import batch_norm_affine
from ...graph.ir import Graph, Node
from ...graph.ranges import Range
from ...graph.trace import INPUT

_POINTWISE = {"kernel": "(1, 1)", "stride": "(1, 1)", "dilate": "(1, 1)", "pad": "(0, 0)"}


def convolve_batch_norms(graph: Graph, input_shape: Sequence[int]) -> int:
    """Make a depthwise 1x1 convolution of each batch normalization of maps.

    In 8 bits MXNet's batch normalization is a pass of its own, the ReLU behind it another; oneDNN
    runs this convolution with its ReLU in one.
    """
    symbol, _ = graph.to_symbol()
    internals = symbol.get_internals()
    _, shapes, _ = internals.infer_shape(**{INPUT: tuple(input_shape)})
    maps = {name for name, shape in zip(internals.list_outputs(), shapes) if len(shape) == 4}
    changed = 0
    for norm in graph.operators():
        if not norm.is_like("BatchNorm", axis="1") or tensor(norm) not in maps:
            continue
        scale, shift = batch_norm_affine(graph, norm)
        count = str(len(scale))
        norm.op = "Convolution"
        norm.attrs = {**_POINTWISE, "num_filter": count, "num_group": count, "no_bias": "False"}
        norm.inputs = [
            norm.inputs[0],
            (graph.variable(f"{norm.name}_weight", scale.reshape(-1, 1, 1, 1)), 0),
            (graph.variable(f"{norm.name}_bias", shift), 0),
        ]
        changed += 1
    return changed


def tensor(node: Node) -> str:
    """Name a node's first output."""
    return node.name if node.op == "null" else f"{node.name}_output"


def is_line(node: Node) -> bool:
    """Whether this multiplies each channel by a number and adds another."""
    groups = node.attrs.get("num_group")
    return node.is_like("Convolution", **_POINTWISE) and groups == node.attrs.get("num_filter")


def level_groups(graph: Graph) -> set[str]:
    """Give the filters of each grouped convolution one largest weight, as MXNet needs it.

    MXNet 1.9.1 reads the filters' scales by the number of the group instead of that of the filter,
    which does no harm where all are equal. The convolutions behind undo it.

    Returns
    -------
    set
        Names of the grouped convolutions for which it can't be done; they are wrong in 8 bits.
    """
    wrong, readers = set(), graph.readers()
    outputs = {id(node) for node, _ in graph.heads}
    for conv in graph.operators():
        if conv.op != "Convolution" or conv.attrs.get("num_group", "1") == "1" or is_line(conv):
            continue
        chain = [conv]
        while len(readers[id(chain[-1])]) == 1 and _keeps_sign(readers[id(chain[-1])][0]):
            chain += readers[id(chain[-1])]
        behind = readers[id(chain[-1])]
        if outputs & {id(node) for node in chain} or not all(map(_absorbs, behind)):
            wrong.add(conv.name)
            continue
        weight = graph.array(conv, 1)
        largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
        unit = np.where(largest > 0, largest, 1).astype(np.float32)
        arrays = {"weight": (weight.T / unit).T}
        if len(conv.inputs) > 2:
            arrays["bias"] = graph.array(conv, 2) / unit
        new = [(graph.variable(f"{conv.name}_{kind}", a), 0) for kind, a in arrays.items()]
        conv.inputs = [conv.inputs[0], *new]
        for reader in behind:
            scaled = graph.array(reader, 1) * unit.reshape(1, -1, 1, 1)
            reader.inputs[1] = graph.variable(f"{reader.name}_weight", scaled), 0
    return wrong


def _keeps_sign(node: Node) -> bool:
    """Whether scaled inputs give outputs scaled as much, for positive scales."""
    relu = node.is_like("Activation", act_type="relu")
    return relu or node.is_like("LeakyReLU", act_type="leaky")


def _absorbs(node: Node) -> bool:
    return node.op == "Convolution" and node.attrs.get("num_group", "1") == "1"


def spread_channels(graph: Graph, ranges: Mapping[str, Range]) -> dict[str, tuple[float, float]]:
    """Let convolutions write each channel so that it takes all of 8 bits.

    It is done where only lines, see :func:`is_line`, read the convolution, if need be through
    concatenations and poolings: they undo it. A ReLU behind it, which finds no negative value, has
    oneDNN write unsigned bytes. Parts of a concatenation then have one scale, so that it only
    copies. Where a part stands beside another that can't be spread, it gets that one's range.

    Parameters
    ----------
    graph
        Changed in place.
    ranges
        Of all its tensors.

    Returns
    -------
    dict
        The ranges of the tensors that were changed, by the names of the tensors.
    """
    spreading = _Spreading(graph, ranges)
    chosen = [node for node in graph.operators() if spreading.allowed(node)]
    ends = {id(spreading.end(node)) for node in chosen}
    for conv in chosen:
        spreading.spread(conv, ends)
    for line in graph.operators():
        if is_line(line):
            spreading.undo(line)
    return spreading.found


class _Spreading:
    """The state of one pass: for each changed node its channels' units and zeros."""

    def __init__(self, graph: Graph, ranges: Mapping[str, Range]) -> None:
        self.graph, self.ranges = graph, ranges
        self.readers = graph.readers()
        self.outputs = {id(node) for node, _ in graph.heads}
        self.lines: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.found: dict[str, tuple[float, float]] = {}

    def end(self, conv: Node) -> Node:
        """Return the ReLU behind a convolution, or itself."""
        readers = self.readers[id(conv)]
        only_relu = len(readers) == 1 and readers[0].is_like("Activation", act_type="relu")
        return readers[0] if only_relu and id(conv) not in self.outputs else conv

    def allowed(self, node: Node) -> bool:
        return node.op == "Convolution" and not is_line(node) and self._undone(self.end(node))

    def _undone(self, node: Node) -> bool:
        readers = self.readers[id(node)]
        return bool(readers) and id(node) not in self.outputs and all(map(self._undoes, readers))

    def _undoes(self, reader: Node) -> bool:
        return is_line(reader) or (_keeps_channels(reader) and self._undone(reader))

    def spread(self, conv: Node, spread_ends: set[int]) -> None:
        end = self.end(conv)
        found = self.ranges[tensor(end)]
        beside = self._ranges_beside(end, spread_ends)
        if beside:
            top = max(beside)
            low = np.zeros_like(found.channel_low)
            unit = np.maximum(-found.channel_low, found.channel_high) / top
        else:
            top = 1.0
            low = found.channel_low if end is conv else np.zeros_like(found.channel_low)
            unit = found.channel_high - low
        unit = np.where(unit > 0, unit, 1).astype(np.float32)
        weight = self.graph.array(conv, 1)
        bias = self.graph.array(conv, 2) if len(conv.inputs) > 2 else np.float32(0)
        conv.inputs = [
            conv.inputs[0],
            (self.graph.variable(f"{conv.name}_weight", (weight.T / unit).T), 0),
            (self.graph.variable(f"{conv.name}_bias", (bias - low) / unit), 0),
        ]
        conv.attrs["no_bias"] = "False"
        if end is conv and not beside:
            end = Node("Activation", f"{conv.name}_positive", {"act_type": "relu"}, [(conv, 0)])
            self.graph.replace(conv, end)
        self.lines[id(end)] = unit, low
        signed = bool(beside) and end is conv
        self.found[tensor(end)] = (-top if signed else 0.0, top)

    def _ranges_beside(self, node: Node, spread_ends: set[int]) -> list[float]:
        """Collect the largest values of what is concatenated with a node and can't be spread."""
        largest = []
        for reader in self.readers[id(node)]:
            if reader.op == "Concat":
                for leaf, output in _leaves(reader):
                    if id(leaf) not in spread_ends and id(leaf) not in self.lines:
                        found = self._range(leaf, output)
                        largest.append(max(-found.low, found.high))
            if _keeps_channels(reader):
                largest += self._ranges_beside(reader, spread_ends)
        return [value for value in largest if value > 0]

    def _range(self, node: Node, output: int) -> Range:
        # MXNet numbers the outputs of operators that have several.
        return self.ranges.get(tensor(node)) or self.ranges[f"{node.name}_output{output}"]

    def undo(self, line: Node) -> None:
        unit, low = self._line(line.inputs[0])
        scale = self.graph.array(line, 1)
        bias = self.graph.array(line, 2) if len(line.inputs) > 2 else np.float32(0)
        factors = scale.ravel()
        line.inputs = [
            line.inputs[0],
            (self.graph.variable(f"{line.name}_weight", scale * unit.reshape(-1, 1, 1, 1)), 0),
            (self.graph.variable(f"{line.name}_bias", bias + factors * low), 0),
        ]
        line.attrs["no_bias"] = "False"

    def _line(self, entry: tuple[Node, int]) -> tuple[np.ndarray, np.ndarray]:
        node, output = entry
        if id(node) in self.lines:
            return self.lines[id(node)]
        if _keeps_channels(node):
            units, lows = zip(*(self._line(source) for source in node.inputs))
            return np.concatenate(units), np.concatenate(lows)
        count = len(self._range(node, output).channel_low)
        return np.ones(count, np.float32), np.zeros(count, np.float32)


def _keeps_channels(node: Node) -> bool:
    """Whether a channel's unit and zero stay what they are."""
    if node.op == "Pooling":
        unpadded = node.attrs.get("pad", "(0, 0)") in ("()", "(0, 0)")
        inside = unpadded and node.is_like("Pooling", pooling_convention="valid")
        return node.is_like("Pooling", pool_type="max") or (
            node.is_like("Pooling", pool_type="avg") and inside
        )
    return node.is_like("Concat", dim="1")


def _leaves(node: Node) -> list[tuple[Node, int]]:
    """What a node consists of that is neither concatenated nor pooled."""
    found = []
    for source, output in node.inputs:
        found += _leaves(source) if _keeps_channels(source) else [(source, output)]
    return found
