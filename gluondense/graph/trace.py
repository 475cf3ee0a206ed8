# SPDX-License-Identifier: Apache-2.0
"""Networks traced to symbol graphs, and graphs that MXNet 1.4 and later can load."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import mxnet as mx

from .ir import free_name

INPUT = "data"

# Operators of all model families, and those that Gluon code commonly adds before or after them.
# MXNet 1.4.1 has run them all, in exports of every family and option.
PORTABLE_OPERATORS = frozenset(
    {
        *("Activation", "BatchNorm", "Concat", "Convolution", "Dropout", "Flatten"),
        *("FullyConnected", "Pooling", "elemwise_add", "expand_dims", "slice_axis", "squeeze"),
        "LeakyReLU",  # CSPResNet
        "elemwise_mul",  # SiLU of DPN-48b
        *("_mul_scalar", "broadcast_mul", "softmax"),  # attention="se" and "path"
        *("LayerNorm", "clip", "erf"),  # RDNet
        *("Reshape", "reshape_like", "transpose"),  # pool="mean_max"
        # pre- and post-processing
        *("Cast", "_div_scalar", "_minus_scalar", "_plus_scalar", "log_softmax", "sigmoid"),
        *("broadcast_add", "broadcast_div", "broadcast_sub"),
        # detectors
        *("UpSampling", "_arange", "_contrib_box_nms", "elemwise_sub", "exp", "max", "repeat"),
        *("broadcast_maximum", "slice_like", "space_to_depth", "tile", "zeros_like"),
    }
)

# Attributes that MXNet 1.9 writes and 1.4 rejects, with the values that equal 1.4's behaviour. In
# inference, Dropout does nothing with any.
NEWER_ATTRIBUTES = {
    ("Dropout", "cudnn_off"): ("False", "True"),
    ("Pooling", "layout"): ("NCHW",),
    ("_contrib_box_nms", "background_id"): ("-1",),
}
# 1.4 lacks GELU(x) = x (1 + erf(x / sqrt 2)) / 2. The operators that replace it, and their scalars;
# the first one reads x, and the product both x and what is before it.
GELU = (
    ("scaled", "_mul_scalar", math.sqrt(0.5)),
    ("erf", "erf", None),
    ("plus", "_plus_scalar", 1.0),
    ("product", "broadcast_mul", None),
    ("", "_mul_scalar", 0.5),
)

_FLOAT16 = ("__dtype__", "2")  # MXNet's type number


def trace(net: Callable) -> mx.sym.Symbol:
    """Trace a network to a Symbol; the names do not depend on other blocks of the process.

    ``net`` is any HybridBlock with one input, which is named ``data``. It is not modified.

    Examples
    --------
    >>> import gluondense
    >>> trace(gluondense.get_model("densenet121")).list_arguments()[:2]
    ['data', 'densenet121_stem_conv_weight']
    """
    with mx.name.NameManager(), mx.AttrScope():
        outputs = net(mx.sym.var(INPUT))
    return outputs if isinstance(outputs, mx.sym.Symbol) else mx.sym.Group(list(outputs))


def indented_json(symbol: mx.sym.Symbol) -> str:
    """Serialize a graph as indented JSON; equal graphs give equal bytes."""
    return json.dumps(json.loads(symbol.tojson()), indent=2) + "\n"


def portable_json(symbol: mx.sym.Symbol) -> str:
    """Serialize a graph as JSON that MXNet 1.4 and later load; equal graphs give equal bytes.

    GELU becomes ``erf`` and arithmetic. Raises a ValueError if MXNet 1.4 does not support an
    operator or an attribute.

    Examples
    --------
    >>> dropped = mx.sym.Dropout(mx.sym.var("data"), p=0.5, cudnn_off=False, name="dropout")
    >>> json.loads(portable_json(dropped))["nodes"][1]["attrs"]
    {'p': '0.5'}
    """
    graph = json.loads(symbol.tojson())
    _expand_gelu(graph)
    taken: set[str] = set()
    for node in graph["nodes"]:
        attributes = _portable_attributes(node)
        node.pop("attrs", None)
        if attributes:
            node["attrs"] = attributes
        # A layer that is used twice gives two nodes of one name, which readers confuse.
        node["name"] = free_name(node["name"], taken)
    _restart_versions(graph["nodes"])
    return json.dumps(graph, indent=2) + "\n"


def _expand_gelu(graph: dict[str, Any]) -> None:
    nodes: list[dict[str, Any]] = []
    moved: list[int] = []  # the new index of each node
    for node in graph["nodes"]:
        inputs = node["inputs"] = [[moved[source], *rest] for source, *rest in node["inputs"]]
        name, attrs = node["name"], node.get("attrs", {})
        if node["op"] == "LeakyReLU" and attrs.get("act_type") == "gelu":
            (x,) = read = inputs
            for part, op, scalar in GELU:
                row = {"op": op, "name": f"{name}_{part}" if part else name}
                if scalar is not None:
                    row["attrs"] = {"scalar": repr(scalar)}
                nodes.append({**row, "inputs": [x, *read] if op == "broadcast_mul" else read})
                read = [[len(nodes) - 1, 0, 0]]
        else:
            nodes.append(node)
        moved.append(len(nodes) - 1)
    if len(nodes) > len(moved):
        graph["nodes"] = nodes
        graph["heads"] = [[moved[source], *rest] for source, *rest in graph["heads"]]
        graph["arg_nodes"] = [i for i, node in enumerate(nodes) if node["op"] == "null"]
        del graph["node_row_ptr"]  # optional; MXNet counts outputs when it loads the graph


def _restart_versions(nodes: list[dict[str, Any]]) -> None:
    # The third number of an input counts the writes to it. MXNet increments it each time it traces
    # a network's BatchNorm; it is reset here to what a first trace gives, which starts at 1.
    entries = [entry for node in nodes for entry in node["inputs"]]
    lowest: dict[int, int] = {}
    for source, _, version in entries:
        lowest[source] = min(version, lowest.get(source, version))
    for entry in entries:
        entry[2] -= max(0, lowest[entry[0]] - 1)


def variable_attributes(node: dict[str, Any]) -> dict[str, str]:
    """Return the attributes of a variable that inference needs; ``node`` is its row in the JSON."""
    # Shape inference needs the shapes, and the type float16, of variables that the operator's
    # other inputs do not determine. The remaining attributes are for training (initializer,
    # learning-rate factor, ...); some of them differ between processes.
    attributes = node.get("attrs", {})
    return {k: v for k, v in attributes.items() if k == "__shape__" or (k, v) == _FLOAT16}


def _portable_attributes(node: dict[str, Any]) -> dict[str, str]:
    operator, name = node["op"], node["name"]
    if operator == "null":
        return variable_attributes(node)
    attributes = {k: v for k, v in node.get("attrs", {}).items() if not k.startswith("__")}
    if operator not in PORTABLE_OPERATORS:
        raise ValueError(
            f"target (='portable') has no operator {operator} ({name}): export a network without "
            "it, or use net.export(), whose files need MXNet 1.9.1."
        )
    for key in [key for key in attributes if (operator, key) in NEWER_ATTRIBUTES]:
        known = NEWER_ATTRIBUTES[operator, key]
        if attributes.pop(key) not in known:
            raise ValueError(f"target (='portable') needs {key}={known[0]} in {operator} ({name}).")
    return attributes
