"""Networks as symbol graphs, in the words that old MXNets understand too."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import mxnet as mx

INPUT = "data"

# What the networks of all families consist of, and what Gluon code puts in front of or behind them.
# MXNet 1.4.1 has run them all, in exports of every family and option.
PORTABLE_OPERATORS = frozenset(
    {
        "Activation",
        "BatchNorm",
        "Concat",
        "Convolution",
        "Dropout",
        "Flatten",
        "FullyConnected",
        "Pooling",
        "elemwise_add",
        "expand_dims",
        "slice_axis",
        "squeeze",
        # CSPResNet
        "LeakyReLU",
        # attention="se" and "path"
        "_mul_scalar",
        "broadcast_mul",
        "softmax",
        # pool="mean_max"
        "Reshape",
        "reshape_like",
        "transpose",
        # normalization in front, probabilities behind
        "Cast",
        "_div_scalar",
        "_minus_scalar",
        "_plus_scalar",
        "broadcast_add",
        "broadcast_div",
        "broadcast_sub",
        "log_softmax",
        "sigmoid",
    }
)

# Attributes that MXNet 1.9 writes and 1.4 refuses, with the one value that says what 1.4 does.
NEWER_ATTRIBUTES = {
    ("Dropout", "cudnn_off"): "False",
    ("Pooling", "layout"): "NCHW",
}
# Values that 1.4 lacks, of attributes that it has.
NEWER_VALUES = {("LeakyReLU", "act_type"): "gelu"}

_HALVES = ("__dtype__", "2")  # MXNet's number for float16


def trace(net: Callable) -> mx.sym.Symbol:
    """Record the graph of a network; its names do not depend on what else the process has built.

    Parameters
    ----------
    net
        Any HybridBlock of one input, which the graph calls ``data``; it is left as it was.

    Examples
    --------
    >>> import gluondense
    >>> trace(gluondense.get_model("densenet121")).list_arguments()[:2]
    ['data', 'densenet121_stem_conv_weight']
    """
    with mx.name.NameManager(), mx.AttrScope():
        outputs = net(mx.sym.var(INPUT))
    return outputs if isinstance(outputs, mx.sym.Symbol) else mx.sym.Group(list(outputs))


def portable_json(symbol: mx.sym.Symbol) -> str:
    """Write a graph as JSON that MXNet 1.4 and later read; equal graphs give equal bytes.

    Parameters
    ----------
    symbol
        The graph.

    Raises
    ------
    ValueError
        If it has an operator or an attribute that MXNet 1.4 does not know.

    Examples
    --------
    >>> dropped = mx.sym.Dropout(mx.sym.var("data"), p=0.5, cudnn_off=False, name="dropout")
    >>> json.loads(portable_json(dropped))["nodes"][1]["attrs"]
    {'p': '0.5'}
    """
    graph = json.loads(symbol.tojson())
    taken: set[str] = set()
    for node in graph["nodes"]:
        attributes = _portable_attributes(node)
        node.pop("attrs", None)
        if attributes:
            node["attrs"] = attributes
        node["name"] = free_name(node["name"], taken)
    _restart_versions(graph["nodes"])
    return json.dumps(graph, indent=2) + "\n"


def _restart_versions(nodes: list[dict[str, Any]]) -> None:
    # The third number of an input says how often it was written to. MXNet goes on counting each
    # time that it records a network's BatchNorm; a fresh recording starts at 1.
    entries = [entry for node in nodes for entry in node["inputs"]]
    lowest: dict[int, int] = {}
    for source, _, version in entries:
        lowest[source] = min(version, lowest.get(source, version))
    for entry in entries:
        entry[2] -= max(0, lowest[entry[0]] - 1)


def free_name(name: str, taken: set[str]) -> str:
    """Return the name, numbered if it is taken, and take it."""
    # A layer that a network uses twice gives two nodes of one name, which readers mix up.
    names = itertools.chain([name], (f"{name}{number}" for number in itertools.count(2)))
    free = next(candidate for candidate in names if candidate not in taken)
    taken.add(free)
    return free


def _portable_attributes(node: dict[str, Any]) -> dict[str, str]:
    operator, name = node["op"], node["name"]
    if operator == "null":
        # Shape, and type of halves, are needed where an operator's other inputs do not tell them.
        # The rest is for training (initializer, learning-rate factor, …), and some differs between
        # processes.
        attributes = node.get("attrs", {})
        return {k: v for k, v in attributes.items() if k == "__shape__" or (k, v) == _HALVES}
    attributes = {k: v for k, v in node.get("attrs", {}).items() if not k.startswith("__")}
    newer = [f"{k}={v}" for k, v in attributes.items() if NEWER_VALUES.get((operator, k)) == v]
    if newer or operator not in PORTABLE_OPERATORS:
        raise ValueError(
            f"target (='portable') has no operator {' '.join([operator, *newer])} ({name}): export "
            "a network without it, or use net.export(), whose files need MXNet 1.9.1."
        )
    for key in [key for key in attributes if (operator, key) in NEWER_ATTRIBUTES]:
        only = NEWER_ATTRIBUTES[operator, key]
        if attributes.pop(key) != only:
            raise ValueError(f"target (='portable') needs {key}={only} in {operator} ({name}).")
    return attributes
