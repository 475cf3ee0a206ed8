"""Operators of a graph: which have steps, and what their attributes say as numbers."""

from __future__ import annotations

import ast

import numpy as np

from ...graph.ir import Graph, Node

# Operators that steps stand for, and which of their attributes' values, where there are others.
LIMITS: dict[str, dict[str, tuple[str, ...]]] = {
    "Activation": {"act_type": ("relu",)},
    "BatchNorm": {"axis": ("1",)},
    "Concat": {"dim": ("1",)},
    "Flatten": {},
    "Convolution": {"dilate": ("(1, 1)", "()"), "layout": ("NCHW", "None")},
    "FullyConnected": {"flatten": ("True", "1")},
    "LeakyReLU": {"act_type": ("leaky",)},
    "Pooling": {
        "pool_type": ("avg", "max"),
        "pooling_convention": ("valid",),
        "layout": ("NCHW", "None"),
    },
    "_contrib_BatchNormWithReLU": {"axis": ("1",)},
    "elemwise_add": {},
    "slice_axis": {"axis": ("1",)},
}
MOST_TAPS = 1024  # kMostTaps of src/program.h


def check_operators(graph: Graph) -> None:
    """Refuse what no step stands for.

    Raises
    ------
    ValueError
        With the first such node.
    """
    one_pixel: set[int] = set()
    for node in graph.operators():
        limits = LIMITS.get(node.op, {})
        whole = node.op == "Pooling" and is_true(node, "global_pool")
        if whole:
            limits = {key: limits[key] for key in ("pool_type", "layout")}
        beyond = [
            f"{key}={node.attrs[key]}"
            for key, values in limits.items()
            if node.attrs.get(key, values[0]) not in values
        ]
        if node.op in ("Convolution", "Pooling") and not whole:
            kernel = ast.literal_eval(node.attrs["kernel"])
            if len(kernel) != 2 or np.prod(kernel) > MOST_TAPS:
                beyond.append(f"kernel={node.attrs['kernel']}")
        if node.op == "LeakyReLU" and slope_of(node) > 1:
            beyond.append(f"slope={node.attrs['slope']}")
        pixel = all(id(source) in one_pixel for source, _ in node.inputs if source.op != "null")
        pixel = pixel and any(source.op != "null" for source, _ in node.inputs)
        if whole or (pixel and node.op not in ("Convolution", "Pooling")):
            one_pixel.add(id(node))
        elif node.op in ("Flatten", "FullyConnected"):
            beyond.append("of more than one pixel")
        if node.op not in LIMITS or beyond:
            raise ValueError(
                f"target='native' has no step for {node.op}({', '.join(beyond)}) (node "
                f"{node.name}): use target='onednn'."
            )


def slope_of(node: Node) -> float:
    """Return what an activation multiplies negative numbers by."""
    return float(node.attrs.get("slope", 0.25)) if node.op == "LeakyReLU" else 0.0


def pair(node: Node, attr: str, default: int = 1) -> tuple[int, int]:
    """Return an attribute of the two directions."""
    return ast.literal_eval(node.attrs.get(attr, "()")) or (default, default)


def is_true(node: Node, attr: str, default: str = "False") -> bool:
    """Whether an attribute is."""
    return node.attrs.get(attr, default) in ("True", "1")


def is_flat(node: Node) -> int:
    """Whether an output is (N, C), as a number."""
    return int(node.op in ("FullyConnected", "Flatten"))


def count_channels(graph: Graph) -> dict[int, int]:
    """Channels of each node's output, by its id."""
    channels: dict[int, int] = {}
    for node in graph.operators():
        source = node.source()
        if source.op == "null" and id(source) not in channels:
            depth = graph.array(node, 1).shape[1] if node.op == "Convolution" else None
            if depth is None:
                raise ValueError(
                    f"target='native': the image goes into a {node.op}, where it runs only "
                    "networks that begin with a convolution: use target='onednn'."
                )
            channels[id(source)] = depth * int(node.attrs.get("num_group", "1"))
        if node.op in ("Convolution", "FullyConnected"):
            channels[id(node)] = len(graph.array(node, 1))
        elif node.op == "Concat":
            channels[id(node)] = sum(channels[id(part)] for part, _ in node.inputs)
        elif node.op == "slice_axis":
            begin, end = (ast.literal_eval(node.attrs[key]) for key in ("begin", "end"))
            channels[id(node)] = len(range(channels[id(source)])[begin:end])
        else:
            channels[id(node)] = channels[id(source)]
    return channels
