"""Networks as ONNX models: each of MXNet's operators becomes one or a few of opset 13.

MXNet's own exporter lists all parameters as inputs too, which keeps readers from folding them, says
an opset that it does not write, and needs an old ``onnx``.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...graph.ir import Graph
from ...graph.trace import INPUT
from ..artifact import ExportMetadata
from .operators import Writer

OPSET = 13
IR_VERSION = 8  # of ONNX 1.10; readers from then on know it


def to_onnx(graph: Graph, input_shape: Sequence[int | str]) -> Any:
    """Return a graph as an ONNX model of one input, ``data``.

    Parameters
    ----------
    graph
        Of the operators that portable exports consist of, with all arrays.
    input_shape
        Shape of the input; a word names a dimension that is left open, such as
        ``("N", 3, 224, 224)``.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    ValueError
        If ONNX cannot say what an operator does.
    """
    writer = Writer(graph)
    for node in graph.nodes():
        writer.write(node)
    return assemble(writer, input_shape)


def assemble(writer: Writer, input_shape: Sequence[int | str]) -> Any:
    """Return the model of a graph whose nodes are written, after ONNX's checker has seen it."""
    import onnx
    from onnx import helper

    graph = writer.graph
    names = [writer.name_of(entry) for entry in graph.heads]
    kind = helper.np_dtype_to_tensor_dtype(writer.dtype)
    model = helper.make_model(
        helper.make_graph(
            writer.nodes,
            "gluondense",
            [helper.make_tensor_value_info(INPUT, kind, list(input_shape))],
            [
                helper.make_tensor_value_info(name, kind, shape)
                for name, shape in zip(names, _output_shapes(graph, input_shape))
            ],
            writer.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="gluondense",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def open_shape(shape: Sequence[int]) -> tuple[int | str, ...]:
    """Return a shape whose lengths, but for that of the channels, are left open.

    Examples
    --------
    >>> open_shape((1, 3, 224, 224))
    ('N', 3, 'H', 'W')
    """
    return tuple("NCHW"[axis] if axis in (0, 2, 3) else n for axis, n in enumerate(shape))


def describe(model: Any, metadata: ExportMetadata) -> None:
    """Write into a model what readers without gluondense need to know of it.

    Each key of its ``metadata_props`` is a field of the metadata, as JSON; a field that says
    nothing is left out.
    """
    from onnx import helper

    about = dataclasses.asdict(metadata)
    del about["sha256"]  # of files; this is inside of one
    known = {key: value for key, value in about.items() if value is not None}
    helper.set_model_props(model, {key: json.dumps(value) for key, value in known.items()})
    if metadata.preprocess:
        model.doc_string = f"{INPUT} is pixels of 0 to 255, uint8, in shape (N, H, W, C)."
    elif metadata.mean is not None and metadata.std is not None:
        model.doc_string = (
            f"{INPUT} is (pixels / 255 - mean) / std, with mean {list(metadata.mean)} and std "
            f"{list(metadata.std)}, one a channel, in shape (N, C, H, W)."
        )
    model.producer_version = metadata.versions["gluondense"]


def save(model: Any, path: Path) -> None:
    """Write a model; equal models give equal bytes."""
    path.write_bytes(model.SerializeToString(deterministic=True))


def check_installed(target: str) -> None:
    """Refuse a target whose packages are missing.

    Raises
    ------
    ValueError
        If they are.
    """
    missing = [name for name in ("onnx", "onnxruntime") if not importlib.util.find_spec(name)]
    if missing:
        raise ValueError(
            f"target={target!r} needs {' and '.join(missing)}: pip install 'gluondense[onnx]'."
        )


def _output_shapes(graph: Graph, input_shape: Sequence[int | str]) -> list[list[int | str | None]]:
    """Return the outputs' shapes; a length that follows from an open one has no name."""
    symbol, params = graph.to_symbol()
    known = {name: array.shape for name, array in params.items()}

    def infer(open_length: int) -> list[tuple[int, ...]]:
        shape = tuple(n if isinstance(n, int) else open_length for n in input_shape)
        return symbol.infer_shape(**known, **{INPUT: shape})[1]

    return [
        [
            length if length == other else input_shape[0] if axis == 0 else None
            for axis, (length, other) in enumerate(zip(*shapes))
        ]
        for shapes in zip(infer(448), infer(512))
    ]
