# SPDX-License-Identifier: Apache-2.0
"""ONNX models of detectors: the lowered network, and the decoding of boxes behind it."""

from __future__ import annotations

from typing import Any

from ...graph.ir import Graph, Params
from ...graph.split_detector import SplitDetector
from .convert import IR_VERSION, convert
from .operators import Writer

# Two sizes of the network's last feature maps. GluonCV's heads decode maps of up to 128x128.
_LENGTHS = (26, 32)


def join_onnx(model: Any, parts: SplitDetector, params: Params) -> Any:
    """Append the decoding of boxes to the model of a network; return the model of both."""
    from onnx import checker, compose

    outputs = {out.name: name for out, name in zip(model.graph.output, parts.tensors)}
    shapes = {outputs[out.name]: _shape(out, index) for index, out in enumerate(model.graph.output)}
    names = parts.boxes.list_arguments()
    constants = {name: params[name] for name in names if name not in shapes}
    boxes = convert(Writer(Graph(parts.boxes, constants)), shapes, _LENGTHS)
    joined = compose.merge_models(
        model,
        boxes,
        io_map=list(outputs.items()),
        name=model.graph.name,
        producer_name=model.producer_name,
    )
    joined.ir_version = IR_VERSION
    checker.check_model(joined, full_check=True)
    return joined


def _shape(output: Any, index: int) -> list[int | str]:
    """Return the shape of a feature map; its height and width get unique names."""
    batch, channels, *sides = output.type.tensor_type.shape.dim
    names = (f"{axis}{index}" for axis in "HW")
    return [
        batch.dim_param or batch.dim_value,
        channels.dim_value,
        *(side.dim_value or name for side, name in zip(sides, names)),
    ]
