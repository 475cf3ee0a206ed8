# SPDX-License-Identifier: Apache-2.0
"""Channel range equalization: graph passes that give all channels of a tensor one range.

An int8 tensor of oneDNN has one scale for all its channels. Where only affine operators read a
convolution, each channel can have its own scale and zero point: the convolution's filters and bias
apply them, and the affine operators invert them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...graph.inference_passes import batch_norm_affine, set_weights
from ...graph.ir import Graph, Node
from ...graph.ranges import Range
from ...graph.trace import INPUT

_POINTWISE = {"kernel": "(1, 1)", "stride": "(1, 1)", "dilate": "(1, 1)", "pad": "(0, 0)"}


def convolve_batch_norms(graph: Graph, input_shape: Sequence[int]) -> int:
    """Replace batch normalization of feature maps by depthwise 1x1 convolution.

    In int8, MXNet runs batch normalization and the following ReLU as two operators; oneDNN runs the
    convolution with its ReLU as one. Returns the number of replaced nodes.
    """
    symbol, params = graph.to_symbol()
    internals = symbol.get_internals()
    known = {name: array.shape for name, array in params.items()}
    _, shapes, _ = internals.infer_shape(**known, **{INPUT: tuple(input_shape)})
    feature_maps = {n for n, shape in zip(internals.list_outputs(), shapes) if len(shape) == 4}
    changed = 0
    for norm in graph.operators():
        if not norm.is_like("BatchNorm", axis="1") or tensor_name(norm) not in feature_maps:
            continue
        scale, shift = batch_norm_affine(graph, norm)
        count = str(len(scale))
        norm.op = "Convolution"
        norm.attrs = {**_POINTWISE, "num_filter": count, "num_group": count, "no_bias": "False"}
        set_weights(graph, norm, scale.reshape(-1, 1, 1, 1), shift)
        changed += 1
    return changed


def tensor_name(node: Node) -> str:
    """Return the name of a node's first output."""
    return node.name if node.op == "null" else f"{node.name}_output"


def is_affine(node: Node) -> bool:
    """Return whether this is a depthwise 1x1 convolution: a scale and shift per channel."""
    depthwise = node.attrs.get("num_group") == node.attrs.get("num_filter")
    return node.is_like("Convolution", **_POINTWISE) and depthwise


def equalize_grouped_filters(graph: Graph) -> set[str]:
    """Scale the filters of each grouped convolution to a largest weight of 1.

    MXNet 1.9.1 indexes the filters' scales by the group instead of the filter, which is harmless
    only if all filters of the convolution have one scale. The following convolutions invert the
    scaling. Returns the names of the grouped convolutions that cannot be scaled, whose int8 results
    are wrong.
    """
    wrong, readers = set(), graph.readers()
    outputs = {id(node) for node, _ in graph.heads}
    for conv in graph.operators():
        if conv.op != "Convolution" or conv.groups == 1 or is_affine(conv):
            continue
        chain = [conv]
        while len(readers[id(chain[-1])]) == 1 and _is_homogeneous(readers[id(chain[-1])][0]):
            chain += readers[id(chain[-1])]
        following = readers[id(chain[-1])]
        if outputs & {id(node) for node in chain} or not all(map(_absorbs_scale, following)):
            wrong.add(conv.name)
            continue
        weight = graph.array(conv, 1)
        largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
        scale = np.where(largest > 0, largest, 1).astype(np.float32)
        arrays = {"weight": (weight.T / scale).T}
        if len(conv.inputs) > 2:
            arrays["bias"] = graph.array(conv, 2) / scale
        new = [(graph.variable(f"{conv.name}_{kind}", a), 0) for kind, a in arrays.items()]
        conv.inputs = [conv.inputs[0], *new]
        for reader in following:
            scaled = graph.array(reader, 1) * scale.reshape(1, -1, 1, 1)
            reader.inputs[1] = graph.variable(f"{reader.name}_weight", scaled), 0
    return wrong


def _is_homogeneous(node: Node) -> bool:
    """Return whether f(s x) = s f(x) for every positive scale s."""
    relu = node.is_like("Activation", act_type="relu")
    return relu or node.is_like("LeakyReLU", act_type="leaky")


def _absorbs_scale(node: Node) -> bool:
    return node.op == "Convolution" and node.groups == 1


def equalize_channels(graph: Graph, ranges: Mapping[str, Range]) -> dict[str, tuple[float, float]]:
    """Rescale the channels of convolutions so that each uses the full int8 range.

    It is done if only affine operators, see :func:`is_affine`, read the convolution, directly or
    through concatenation and pooling; they invert the rescaling. An added ReLU, whose inputs are
    not negative, makes oneDNN write uint8. All parts of a concatenation get one scale, so that it
    copies only. If another part cannot be rescaled, its range is used.

    ``graph`` is modified in place. ``ranges`` are those of all its tensors by name. The new ranges
    of the rescaled tensors are returned.
    """
    equalizer = _Equalizer(graph, ranges)
    chosen = [node for node in graph.operators() if equalizer.is_eligible(node)]
    rescaled = {id(equalizer.output_node(node)) for node in chosen}
    for conv in chosen:
        equalizer.rescale(conv, rescaled)
    for affine in graph.operators():
        if is_affine(affine):
            equalizer.invert(affine)
    return equalizer.new_ranges


class _Equalizer:
    """State of the pass: scale and zero point of each channel of the rescaled nodes."""

    def __init__(self, graph: Graph, ranges: Mapping[str, Range]) -> None:
        self.graph, self.ranges = graph, ranges
        self.readers = graph.readers()
        self.outputs = {id(node) for node, _ in graph.heads}
        self.affines: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.new_ranges: dict[str, tuple[float, float]] = {}

    def output_node(self, conv: Node) -> Node:
        """Return the ReLU that follows a convolution, or the convolution."""
        readers = self.readers[id(conv)]
        only_relu = len(readers) == 1 and readers[0].is_like("Activation", act_type="relu")
        return readers[0] if only_relu and id(conv) not in self.outputs else conv

    def is_eligible(self, node: Node) -> bool:
        is_conv = node.op == "Convolution" and not is_affine(node)
        return is_conv and self._is_inverted(self.output_node(node))

    def _is_inverted(self, node: Node) -> bool:
        """Return whether all readers of a node can invert a rescaling of its channels."""
        readers = self.readers[id(node)]
        if not readers or id(node) in self.outputs:
            return False
        return all(is_affine(r) or (_keeps_channels(r) and self._is_inverted(r)) for r in readers)

    def rescale(self, conv: Node, rescaled: set[int]) -> None:
        """Divide the channels of a convolution by their ranges, after a shift to zero."""
        output = self.output_node(conv)
        found = self.ranges[tensor_name(output)]
        others = self._ranges_of_other_parts(output, rescaled)
        if others:
            top = max(others)
            low = np.zeros_like(found.channel_low)
            scale = np.maximum(-found.channel_low, found.channel_high) / top
        else:
            top = 1.0
            low = found.channel_low if output is conv else np.zeros_like(found.channel_low)
            scale = found.channel_high - low
        scale = np.where(scale > 0, scale, 1).astype(np.float32)
        weight, bias = self._weights(conv)
        set_weights(self.graph, conv, (weight.T / scale).T, (bias - low) / scale)
        if output is conv and not others:
            output = Node("Activation", f"{conv.name}_positive", {"act_type": "relu"}, [(conv, 0)])
            self.graph.replace(conv, output)
        self.affines[id(output)] = scale, low
        signed = bool(others) and output is conv
        self.new_ranges[tensor_name(output)] = (-top if signed else 0.0, top)

    def _ranges_of_other_parts(self, node: Node, rescaled: set[int]) -> list[float]:
        """Return the largest values of the concatenated parts that cannot be rescaled."""
        largest = []
        for reader in self.readers[id(node)]:
            if reader.op == "Concat":
                for part, output in _concatenated_parts(reader):
                    if id(part) not in rescaled and id(part) not in self.affines:
                        found = self._range(part, output)
                        largest.append(max(-found.low, found.high))
            if _keeps_channels(reader):
                largest += self._ranges_of_other_parts(reader, rescaled)
        return [value for value in largest if value > 0]

    def _range(self, node: Node, output: int) -> Range:
        # MXNet numbers the outputs of operators with several.
        return self.ranges.get(tensor_name(node)) or self.ranges[f"{node.name}_output{output}"]

    def invert(self, affine: Node) -> None:
        """Let an affine operator invert the rescaling of its input."""
        scale, low = self._affine(affine.inputs[0])
        weight, bias = self._weights(affine)
        scaled = weight * scale.reshape(-1, 1, 1, 1)
        set_weights(self.graph, affine, scaled, bias + weight.ravel() * low)

    def _weights(self, conv: Node) -> tuple[np.ndarray, np.ndarray | np.float32]:
        bias = self.graph.array(conv, 2) if len(conv.inputs) > 2 else np.float32(0)
        return self.graph.array(conv, 1), bias

    def _affine(self, entry: tuple[Node, int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the scale and zero point of each channel of a tensor."""
        node, output = entry
        if id(node) in self.affines:
            return self.affines[id(node)]
        if _keeps_channels(node):
            scales, lows = zip(*(self._affine(source) for source in node.inputs))
            return np.concatenate(scales), np.concatenate(lows)
        count = len(self._range(node, output).channel_low)
        return np.ones(count, np.float32), np.zeros(count, np.float32)


def _keeps_channels(node: Node) -> bool:
    """Return whether a node preserves the scale and zero point of each channel."""
    if node.is_like("Concat", dim="1") or node.is_like("Pooling", pool_type="max"):
        return True
    inside = node.is_like("Pooling", pool_type="avg", pooling_convention="valid")
    return inside and node.attrs.get("pad", "(0, 0)") in ("()", "(0, 0)")


def _concatenated_parts(node: Node) -> list[tuple[Node, int]]:
    """Return the inputs of a node, through nested concatenation and pooling."""
    found = []
    for source, output in node.inputs:
        is_part = not _keeps_channels(source)
        found += [(source, output)] if is_part else _concatenated_parts(source)
    return found
