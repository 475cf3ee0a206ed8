# SPDX-License-Identifier: Apache-2.0
"""The configuration of an ONNX export as a model of Triton Inference Server.

The file is protobuf's text format of ``ModelConfig`` in Triton's ``model_config.proto``.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from ..metadata import ExportMetadata

MODEL = "1/model"  # Triton's name for the ONNX model of version 1, without its suffix
CONFIG, LABELS = "config.pbtxt", "labels.txt"
# Triton joins requests that wait, up to this many images; more in one request are refused.
MAX_BATCH_SIZE = 32


def model_config(name: str, model: Path, metadata: ExportMetadata) -> str:
    """Return the content of ``config.pbtxt``.

    A dimension that the graph leaves open, such as height and width, is -1. Clients of the server
    can read the parameters: the preprocessing and the class names, in JSON.

    Parameters
    ----------
    name
        Name of the model, which is that of its folder.
    model
        The ONNX model, whose inputs and outputs are described.
    metadata
        The export's metadata.

    Raises
    ------
    ValueError
        If the package onnx is not installed.
    """
    if not importlib.util.find_spec("onnx"):
        raise ValueError("an archive for Triton needs onnx: pip install 'gluondense[onnx]'.")
    import onnx

    graph = onnx.load(str(model)).graph
    # Triton's classification extension answers with labels; detectors have indices as an output.
    labels = LABELS if has_labels(metadata) else None
    rows = [
        f"name: {_quoted(name)}",
        'backend: "onnxruntime"',
        f"max_batch_size: {MAX_BATCH_SIZE}",
        *(_tensor("input", each) for each in graph.input),
        *(_tensor("output", each, labels) for each in graph.output),
        "dynamic_batching { }",
        *_parameters(metadata),
    ]
    return "\n".join(rows) + "\n"


def has_labels(metadata: ExportMetadata) -> bool:
    """Return whether the index of each output value is that of a class with a name."""
    return metadata.class_names is not None and metadata.task != "detection"


def _tensor(kind: str, tensor: Any, labels: str | None = None) -> str:
    from onnx import TensorProto

    dtype = {TensorProto.FLOAT: "TYPE_FP32", TensorProto.UINT8: "TYPE_UINT8"}
    described = tensor.type.tensor_type
    sides = described.shape.dim[1:]  # without the batch
    fields = {
        "name": _quoted(tensor.name),
        "data_type": dtype[described.elem_type],
        "dims": str([side.dim_value or -1 for side in sides]),
    }
    if labels:
        fields["label_filename"] = _quoted(labels)
    return _block(kind, fields)


def _parameters(metadata: ExportMetadata) -> list[str]:
    preprocessing = metadata.preprocessing and metadata.preprocessing.to_dict()
    known = {"preprocessing": preprocessing, "class_names": metadata.class_names}
    texts = {key: json.dumps(value) for key, value in known.items() if value is not None}
    return [
        _block("parameters", {"key": _quoted(key), "value": f"{{ string_value: {_quoted(text)} }}"})
        for key, text in texts.items()
    ]


def _block(kind: str, fields: dict[str, str]) -> str:
    return "\n".join([f"{kind} {{", *(f"  {key}: {value}" for key, value in fields.items()), "}"])


def _quoted(text: str) -> str:
    return json.dumps(text)  # its escapes are also protobuf's
