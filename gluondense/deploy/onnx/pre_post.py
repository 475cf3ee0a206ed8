"""Pixels in and probabilities out of an ONNX model, as ``deploy.ends`` gives MXNet's graphs."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...graph.ir import free_name
from ...graph.trace import INPUT


def add_normalization(model: Any, scale: np.ndarray, shift: np.ndarray) -> None:
    """Let a model take bytes (N, H, W, C), and normalize them with these numbers for a channel."""
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    taken = {INPUT} | {array.name for array in graph.initializer}
    taken |= {name for node in graph.node for name in node.output}
    names = (
        free_name(f"{INPUT}_{end}", taken) for end in ("float", "maps", "scaled", "normalized")
    )
    floats, maps, scaled, normalized = names
    for node in graph.node:
        node.input[:] = [normalized if name == INPUT else name for name in node.input]
    numbers = []
    for end, values in (("scale", scale), ("shift", shift)):
        numbers.append(free_name(f"{INPUT}_{end}", taken))
        constant = values.astype(np.float32).reshape(1, -1, 1, 1)
        graph.initializer.append(numpy_helper.from_array(constant, numbers[-1]))
    nodes = [
        helper.make_node("Cast", [INPUT], [floats], floats, to=TensorProto.FLOAT),
        helper.make_node("Transpose", [floats], [maps], maps, perm=(0, 3, 1, 2)),
        helper.make_node("Mul", [maps, numbers[0]], [scaled], scaled),
        helper.make_node("Add", [scaled, numbers[1]], [normalized], normalized),
    ]
    # Nodes must come before those that read them.
    nodes += graph.node
    del graph.node[:]
    graph.node.extend(nodes)
    batch, channels, height, width = (
        side.dim_param or side.dim_value for side in graph.input[0].type.tensor_type.shape.dim
    )
    shape = [batch, height, width, channels]
    graph.input[0].CopyFrom(helper.make_tensor_value_info(INPUT, TensorProto.UINT8, shape))
    _check(model)


def add_softmax(model: Any) -> None:
    """Let a model give the softmax of its only output."""
    from onnx import helper

    graph, name = model.graph, "probabilities"
    node = helper.make_node("Softmax", [graph.output[0].name], [name], name, axis=-1)
    graph.node.append(node)
    graph.output[0].name = name
    _check(model)


def _check(model: Any) -> None:
    import onnx

    onnx.checker.check_model(model, full_check=True)
