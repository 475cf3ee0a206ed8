# SPDX-License-Identifier: Apache-2.0
"""Fuse the stem of networks for ImageNet in a training graph into one native operator."""

from __future__ import annotations

from .dense_layers import CONV, Uses, conv_norm_act, relu_slope
from .ir import Graph, Node

STEM = "gluondense_stem"  # the native operator that trains a stem
CONV7X7 = {**CONV, "kernel": "(7, 7)", "pad": "(3, 3)", "stride": "(2, 2)"}
MAX_POOL = {"kernel": "(3, 3)", "stride": "(2, 2)", "pad": "(1, 1)", "pool_type": "max"}
MAX_POOL |= {"global_pool": "False", "pooling_convention": "valid"}


def find_stem(graph: Graph, uses: Uses) -> tuple[Node, Node] | None:
    """Match Conv7x7-BN-ReLU-MaxPool of the images; return the pooling and the native operator.

    The operator has no gradient of the images.
    """
    for pool in graph.operators():
        if not pool.is_like("Pooling", **MAX_POOL) or uses[id(pool.source())] > 1:
            continue
        slope = relu_slope(pool.source())
        unit = conv_norm_act(pool.source(), CONV7X7, uses, slope) if slope is not None else None
        if unit is None or unit.source[0].op != "null":
            continue
        eps, momentum = unit.norm_settings
        attrs = {"out_channels": str(unit.filters), "slope": str(slope)}
        attrs |= {"eps": eps, "momentum": momentum}
        return pool, Node(STEM, pool.name, attrs, [unit.source, *unit.parameters])
    return None
