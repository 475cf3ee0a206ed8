# SPDX-License-Identifier: Apache-2.0
"""Pre- and post-processing in ONNX models, as ``deploy.pre_post`` adds to MXNet graphs."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...graph.ir import free_name
from ...graph.trace import INPUT


def add_normalization(model: Any, scale: np.ndarray, shift: np.ndarray) -> None:
    """Change a model's input to pixels, uint8 (N, H, W, C), and normalize them in the model.

    ``scale`` and ``shift`` have a number per channel, (C,).
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    taken = {INPUT} | {array.name for array in graph.initializer}
    taken |= {name for node in graph.node for name in node.output}
    floats, channels_first, scaled, normalized = (
        free_name(f"{INPUT}_{suffix}", taken)
        for suffix in ("float", "maps", "scaled", "normalized")
    )
    for node in graph.node:
        node.input[:] = [normalized if name == INPUT else name for name in node.input]
    constants = []
    for suffix, values in (("scale", scale), ("shift", shift)):
        constants.append(free_name(f"{INPUT}_{suffix}", taken))
        array = values.astype(np.float32).reshape(1, -1, 1, 1)
        graph.initializer.append(numpy_helper.from_array(array, constants[-1]))
    rows: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Cast", [INPUT], floats, {"to": TensorProto.FLOAT}),
        ("Transpose", [floats], channels_first, {"perm": (0, 3, 1, 2)}),
        ("Mul", [channels_first, constants[0]], scaled, {}),
        ("Add", [scaled, constants[1]], normalized, {}),
    ]
    nodes = [helper.make_node(op, x, [name], name, **attrs) for op, x, name, attrs in rows]
    nodes += graph.node  # in topological order
    del graph.node[:]
    graph.node.extend(nodes)
    batch, channels, height, width = (
        side.dim_param or side.dim_value for side in graph.input[0].type.tensor_type.shape.dim
    )
    shape = [batch, height, width, channels]
    graph.input[0].CopyFrom(helper.make_tensor_value_info(INPUT, TensorProto.UINT8, shape))
    _check(model)


def add_probabilities(model: Any, sigmoid: bool) -> None:
    """Replace a model's only output by its softmax or sigmoid, named ``probabilities``."""
    from onnx import helper

    graph, name = model.graph, "probabilities"
    inputs = [graph.output[0].name]
    if sigmoid:
        node = helper.make_node("Sigmoid", inputs, [name], name)
    else:
        node = helper.make_node("Softmax", inputs, [name], name, axis=-1)
    graph.node.append(node)
    graph.output[0].name = name
    _check(model)


def _check(model: Any) -> None:
    import onnx

    onnx.checker.check_model(model, full_check=True)
