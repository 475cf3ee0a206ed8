# SPDX-License-Identifier: Apache-2.0
"""The cost of each operator of a graph, from its shapes; the graph is not run."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import takewhile
from math import prod
from typing import Any, Callable, Union

import mxnet as mx
from mxnet.gluon import Block, Constant, HybridBlock
from mxnet.symbol import Symbol

Shape = tuple[int, ...]
Traceable = Union[HybridBlock, Symbol]

FLOAT_BYTES = 4

# Operator -> its multiply-adds, from the shapes of input, weight and output.
MACS = {
    "Convolution": lambda data, weight, out: prod(out) * prod(weight[1:]),
    "Deconvolution": lambda data, weight, out: prod(data) * prod(weight[1:]),
    "FullyConnected": lambda data, weight, out: prod(out) * prod(weight[1:]),
}
CONVOLUTIONS = ("Convolution", "Deconvolution")
VIEWS = ("Flatten", "Reshape", "expand_dims", "reshape_like", "squeeze")


@dataclasses.dataclass(frozen=True)
class Layer:
    """An operator of the graph and its costs, which :mod:`gluondense.analysis.costs` defines."""

    name: str
    op: str
    output_shape: Shape
    params: int
    macs: int
    activations: int
    memory: int
    cio: int


def descendants(model: Block | Symbol, path: str = "") -> Iterator[tuple[str, Block]]:
    """Yield a block and its descendants with their paths (``features.stage1.layer3``)."""
    if isinstance(model, Block):
        yield path, model
        for name, child in model._children.items():
            yield from descendants(child, f"{path}.{name}" if path else name)


def count_layers(model: Traceable, input_shape: Shape) -> Iterator[Layer]:
    """Yield the operators of a network in the order of execution."""
    symbol = _trace(model)
    arguments = symbol.list_arguments()
    data = "data" if "data" in arguments else arguments[0]
    internals = symbol.get_internals()
    graph = json.loads(internals.tojson())
    nodes = graph["nodes"]
    outputs = [(node, output) for node, output, _ in graph["heads"]]
    shapes = dict(zip(outputs, _infer_shapes(internals, data, input_shape)))
    memory: Counter[int] = Counter()
    for (index, _), shape in shapes.items():
        memory[index] += 0 if nodes[index]["op"] in VIEWS else FLOAT_BYTES * prod(shape)
    # Labels of Module's loss operators are arguments too.
    labels = (name for name in arguments if name.endswith("label"))
    fixed = {data, *labels, *symbol.list_auxiliary_states(), *_constants(model)}
    params = _params(nodes, shapes, fixed)
    rename = _renamer(model, [node["name"] for node in nodes if node["op"] != "null"])
    for index, node in enumerate(nodes):
        op, out = node["op"], shapes[index, 0]
        if op == "null":
            continue
        if "subgraphs" in node:
            raise ValueError(f"{node['name']} ({op}) has a subgraph: count before optimize_for.")
        inputs = [shapes[source, output] for source, output, _ in node["inputs"]]
        yield Layer(
            name=rename(node["name"]),
            op=op,
            output_shape=out,
            params=params[index],
            macs=MACS[op](inputs[0], inputs[1], out) if op in MACS else 0,
            activations=prod(out) if op in MACS else 0,
            memory=memory[index],
            cio=prod(inputs[0]) + prod(out) if op in CONVOLUTIONS else 0,
        )


def _constants(model: Traceable) -> set[str]:
    """Return the names of a block's constants, such as the cells of a detector."""
    if isinstance(model, Symbol):
        return set()
    parameters = model.collect_params().values()
    return {each.name for each in parameters if isinstance(each, Constant)}


def _trace(model: Traceable) -> Symbol:
    if isinstance(model, Symbol):
        return model
    outputs = model(mx.sym.var("data"))
    return outputs if isinstance(outputs, Symbol) else mx.sym.Group(list(outputs))


def _infer_shapes(internals: Symbol, data: str, input_shape: Shape) -> list[Shape]:
    try:
        _, shapes, _ = internals.infer_shape_partial(**{data: input_shape})
    except mx.MXNetError as error:
        # On one line, without MXNet's time stamp and source location.
        reason = " ".join(re.sub(r"MXNetError: |\[[\d:]+\] \S+: ", "", str(error)).split())
        raise ValueError(
            f"the network cannot take inputs of shape {input_shape}: {reason}"
        ) from None
    for name, shape in zip(internals.list_outputs(), shapes):
        if not shape or 0 in shape:
            raise ValueError(
                f"the shape of {name!r} does not follow from that of {data!r}: "
                "use a network that has one input."
            )
    return shapes


def _params(
    nodes: list[Any], shapes: dict[tuple[int, int], Shape], no_params: set[str]
) -> Counter[int]:
    """Count the parameters of each node; shared ones count for the first node that reads them."""
    counted = set(no_params)
    params: Counter[int] = Counter()
    for index, node in enumerate(nodes):
        for source, output, _ in node["inputs"]:
            if nodes[source]["op"] == "null" and nodes[source]["name"] not in counted:
                counted.add(nodes[source]["name"])
                params[index] += prod(shapes[source, output])
    return params


def _renamer(model: Traceable, operators: list[str]) -> Callable[[str], str]:
    """Return a function from an operator's name in the symbol to the path of its block.

    A symbol has no blocks: the function removes the prefix that all its names share.
    """
    if isinstance(model, Symbol):
        same = takewhile(lambda letters: len(set(letters)) == 1, zip(*operators))
        prefix = "".join(letters[0] for letters in same)
        paths = {prefix[: prefix.rfind("_") + 1]: ""}
    else:
        paths = {}
        for path, block in descendants(model):
            paths.setdefault(block.prefix, path)

    def rename(operator: str) -> str:
        prefixes = (operator[: match.end()] for match in re.finditer("_", operator))
        prefix = max((part for part in prefixes if part in paths), key=len, default="")
        rest = re.sub("_?fwd$", "", operator[len(prefix) :])
        return ".".join(filter(None, (paths.get(prefix), rest))) or operator

    return rename
