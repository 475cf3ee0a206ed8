# SPDX-License-Identifier: Apache-2.0
"""A detector's graph in two parts: the network, and the decoding of boxes behind it.

Targets lower the network. Decoding and non-maximum suppression stay as they are, or are replaced as
a whole.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import mxnet as mx

from .ir import free_name
from .trace import INPUT, indented_json, portable_json, variable_attributes

NMS = "_contrib_box_nms"
LAYERS = ("Convolution", "FullyConnected")

Rows = list[dict[str, Any]]


class SplitDetector(NamedTuple):
    """The two parts of a detector's graph."""

    network: mx.sym.Symbol  # its outputs are those of the last layers
    boxes: mx.sym.Symbol  # reads them as variables
    tensors: tuple[str, ...]  # the names of these variables, in the order of the outputs

    def join(self, network: str, portable: bool) -> str:
        """Return the JSON of the whole graph with a lowered network, which is JSON too."""
        lowered = mx.sym.load_json(network)
        joined = self.boxes(**{name: lowered[i] for i, name in enumerate(self.tensors)})
        return portable_json(joined) if portable else indented_json(joined)


def split_detector(symbol: mx.sym.Symbol) -> SplitDetector | None:
    """Split a graph behind its last layers; return None if it has no non-maximum suppression.

    The first part has the convolutions and dense layers and all that they depend on. A ValueError
    is raised if the second part reads the image.

    Examples
    --------
    >>> scores = mx.sym.Convolution(mx.sym.var("data"), kernel=(1, 1), num_filter=6, name="conv")
    >>> rows = mx.sym.Reshape(scores, shape=(0, -1, 6))
    >>> split_detector(mx.sym.contrib.box_nms(rows)).tensors
    ('conv_output',)
    """
    content = json.loads(symbol.tojson())
    rows: Rows = content["nodes"]
    if all(row["op"] != NMS for row in rows):
        return None
    network = _sources(rows, {index for index, row in enumerate(rows) if row["op"] in LAYERS})
    _read_sizes_of_predictions(rows, network)
    read = _sources(rows, {source for source, *_ in content["heads"]})
    behind = [rows[index] for index in sorted(read - network)]
    entries = [tuple(entry[:2]) for row in behind for entry in row["inputs"]]
    entries += [tuple(entry[:2]) for entry in content["heads"]]
    if any(rows[source]["name"] == INPUT for source, _ in entries):
        raise ValueError("the decoding of boxes reads the image: use net.export().")
    # Variables of constants, such as anchors, belong to the part that reads them.
    cut = [entry for entry in dict.fromkeys(entries) if entry[0] in network]
    cut = [entry for entry in cut if rows[entry[0]]["op"] != "null"]
    heads = [[source, output, 0] for source, output in cut]
    taken = {row["name"] for row in rows if row["op"] == "null"}
    names = [free_name(f"{rows[source]['name']}_output", taken) for source, _ in cut]
    boxes = _with_variables(content, dict(zip(cut, names)))
    return SplitDetector(_load({**content, "heads": heads}), boxes, tuple(names))


def _sources(rows: Rows, indices: set[int]) -> set[int]:
    """Return the indices with those of all nodes that they depend on."""
    found = set(indices)
    for index in reversed(range(len(rows))):  # readers before what they read
        if index in found:
            found.update(source for source, *_ in rows[index]["inputs"])
    return found


def _read_sizes_of_predictions(rows: Rows, network: set[int]) -> None:
    """Let ``slice_like`` read the size of a prediction instead of the prediction's input.

    GluonCV's heads read the latter. The input of a 1x1 convolution has the size of its output; the
    network would get another output, of many channels.
    """
    pointwise = {
        tuple(row["inputs"][0][:2]): index
        for index, row in enumerate(rows)
        if row["op"] == "Convolution" and _keeps_size(row["attrs"])
    }
    for index, row in enumerate(rows):
        if row["op"] != "slice_like" or index in network:
            continue
        source, output = row["inputs"][1][:2]
        while rows[source]["op"] == "_mul_scalar":
            source, output = rows[source]["inputs"][0][:2]
        if row["attrs"].get("axes") == "(2, 3)" and (source, output) in pointwise:
            row["inputs"][1] = [pointwise[source, output], 0, 0]


def _keeps_size(attrs: dict[str, str]) -> bool:
    window = {"kernel": "(1, 1)", "stride": "(1, 1)", "pad": "(0, 0)"}
    return all(attrs.get(key, value) == value for key, value in window.items())


def _with_variables(content: dict[str, Any], names: dict[tuple[int, int], str]) -> mx.sym.Symbol:
    """Load a graph in which tensors, pairs of node and output, are replaced by variables."""
    variables: Rows = [{"op": "null", "name": name, "inputs": []} for name in names.values()]
    index = {entry: number for number, entry in enumerate(names)}

    def moved(entries: Sequence[Sequence[int]]) -> list[list[int]]:
        shifted = ((source + len(variables), output) for source, output, *_ in entries)
        replaced = (index.get((source, output)) for source, output, *_ in entries)
        return [[*new, 0] if old is None else [old, 0, 0] for new, old in zip(shifted, replaced)]

    rows = [{**row, "inputs": moved(row["inputs"])} for row in content["nodes"]]
    for row in rows:
        if row["op"] == "null":
            row["attrs"] = variable_attributes(row)
    return _load({**content, "nodes": [*variables, *rows], "heads": moved(content["heads"])})


def _load(content: dict[str, Any]) -> mx.sym.Symbol:
    nodes = content["nodes"]
    arguments = [index for index, row in enumerate(nodes) if row["op"] == "null"]
    rest = {key: value for key, value in content.items() if key != "node_row_ptr"}
    return mx.sym.load_json(json.dumps({**rest, "arg_nodes": arguments}))
