# SPDX-License-Identifier: Apache-2.0
"""The operators of a graph that programs have steps for."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ...graph.ir import Graph, Node
from .memory_plan import channel_range

LAYOUT = {"layout": ("NCHW", "None")}
# Supported operators, and the values of attributes that have unsupported ones; defaults are first.
LIMITS: dict[str, dict[str, tuple[str, ...]]] = {
    "Activation": {"act_type": ("relu",)},
    "BatchNorm": {"axis": ("1",)},
    "Concat": {"dim": ("1",)},
    "Flatten": {},
    "Convolution": {"dilate": ("(1, 1)", "()"), **LAYOUT},
    "FullyConnected": {"flatten": ("True", "1")},
    "LeakyReLU": {"act_type": ("leaky", "gelu")},
    "Pooling": {"pool_type": ("avg", "max"), "pooling_convention": ("valid", "full"), **LAYOUT},
    "UpSampling": {"sample_type": ("nearest",), "num_args": ("1",)},
    "_contrib_BatchNormWithReLU": {"axis": ("1",)},
    "broadcast_maximum": {},
    "broadcast_mul": {},
    "layer_norm": {},
    "elemwise_add": {},
    "hard_sigmoid": {},
    "sigmoid_gate": {},
    "silu": {},
    "slice_axis": {"axis": ("1",)},
    "space_to_depth": {},
    "upsample_like": {},
}
FLOAT_ONLY = ("broadcast_mul", "hard_sigmoid", "layer_norm")
RESAMPLED = ("UpSampling", "space_to_depth", "upsample_like")
COMBINED = ("broadcast_maximum", "sigmoid_gate")  # of two maps, over floats only
MAX_TAPS = 1024  # kMaxTaps of src/kernels/inference_kernels.h


def check_operators(graph: Graph) -> None:
    """Raise a ValueError that names the first operator without a step, if there is one."""
    one_pixel: set[int] = set()  # nodes whose outputs are 1x1 pixels
    for node in graph.operators():
        is_global = _is_global_pool(node)
        unsupported = _unsupported(node)
        sources = [source for source, _ in node.inputs if source.op != "null"]
        pixel = bool(sources) and all(id(source) in one_pixel for source in sources)
        if is_global or (pixel and _keeps_size(node)):
            one_pixel.add(id(node))
        elif node.op in ("Flatten", "FullyConnected"):
            unsupported.append("of more than one pixel")
        if node.op == "broadcast_mul" and not (
            id(node.source(1)) in one_pixel or _is_channel_factor(graph, node.source(1))
        ):
            unsupported.append("of two maps")
        if node.op not in LIMITS or unsupported:
            raise ValueError(
                f"target='native' has no step for {node.op}({', '.join(unsupported)}) (node "
                f"{node.name}): use target='onednn'."
            )


def _unsupported(node: Node) -> list[str]:
    """List the attributes of a node that have unsupported values."""
    limits = LIMITS.get(node.op, {})
    if _is_global_pool(node):
        limits = {key: limits[key] for key in ("pool_type", "layout")}
    unsupported = [
        f"{key}={node.attrs[key]}"
        for key, values in limits.items()
        if node.attrs.get(key, values[0]) not in values
    ]
    if node.op in ("Convolution", "Pooling") and not _is_global_pool(node):
        kernel = node.value("kernel")
        if len(kernel) != 2 or np.prod(kernel) > MAX_TAPS:
            unsupported.append(f"kernel={node.attrs['kernel']}")
    if is_ceil(node):
        sizes = zip(node.pair("kernel"), node.pair("stride"), node.pair("pad", 0))
        outside = any(stride > kernel - pad for kernel, stride, pad in sizes)
        if outside or node.attrs.get("pool_type", "max") != "max":
            unsupported.append("pooling_convention=full")
    if node.op == "LeakyReLU" and negative_slope(node) > 1:
        unsupported.append(f"slope={node.attrs['slope']}")
    return unsupported


def check_int8_operators(operators: Iterable[Node]) -> None:
    """Raise a ValueError that names the first operator that has a step over floats only."""
    for node in operators:
        if node.op in FLOAT_ONLY or is_gelu(node):
            raise ValueError(
                f"target='native_int8' has no step for {'GELU' if is_gelu(node) else node.op} "
                f"(node {node.name}): use target='native', or target='int8'."
            )


def _keeps_size(node: Node) -> bool:
    """Return whether the output has as many pixels as the input."""
    if node.op == "Convolution":
        window = node.pair("kernel"), node.pair("stride"), node.pair("pad", 0)
        return window == ((1, 1), (1, 1), (0, 0))
    return node.op not in ("Pooling", *RESAMPLED)


def _is_channel_factor(graph: Graph, node: Node) -> bool:
    """Return whether a variable has a number for each channel, (1, C, 1, 1)."""
    shape = graph.params[node.name].shape if node.name in graph.params else ()
    return len(shape) == 4 and shape[0] == shape[2] == shape[3] == 1


def _is_global_pool(node: Node) -> bool:
    return node.op == "Pooling" and node.flag("global_pool")


def is_ceil(node: Node) -> bool:
    """Return whether a pooling rounds its output's size up."""
    return node.attrs.get("pooling_convention") == "full" and not _is_global_pool(node)


def is_gelu(node: Node) -> bool:
    """Return whether an activation is a GELU."""
    return node.op == "LeakyReLU" and node.attrs.get("act_type") == "gelu"


def negative_slope(node: Node) -> float:
    """Return an activation's slope for negative inputs."""
    return float(node.attrs.get("slope", 0.25)) if node.op == "LeakyReLU" else 0.0


def count_channels(graph: Graph) -> dict[int, int]:
    """Return the number of channels of each node's output, by the node's id."""
    channels: dict[int, int] = {}
    for node in graph.operators():
        source = node.source()
        if source.op == "null" and id(source) not in channels:
            if node.op != "Convolution":
                raise ValueError(
                    f"target='native': the image goes into a {node.op}, where it runs only "
                    "networks that begin with a convolution: use target='onednn'."
                )
            channels[id(source)] = graph.array(node, 1).shape[1] * node.groups
        if node.op in ("Convolution", "FullyConnected"):
            channels[id(node)] = len(graph.array(node, 1))
        elif node.op == "Concat":
            channels[id(node)] = sum(channels[id(part)] for part, _ in node.inputs)
        elif node.op == "slice_axis":
            channels[id(node)] = len(channel_range(node, channels))
        elif node.op == "space_to_depth":
            channels[id(node)] = channels[id(source)] * node.value("block_size") ** 2
        else:
            channels[id(node)] = channels[id(source)]
    return channels
