# SPDX-License-Identifier: Apache-2.0
"""Conversion of graphs to ONNX models of opset 13.

MXNet's own exporter also lists all parameters as inputs, which prevents runtimes from folding
them, declares an opset other than the one it writes, and needs an old version of ``onnx``.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Union

from ...graph.ir import Graph
from ...graph.trace import INPUT
from ..metadata import ExportMetadata
from .operators import Writer

OPSET = 13
IR_VERSION = 8  # supported since ONNX 1.10

Shape = Sequence[Union[int, str]]


def to_onnx(graph: Graph, input_shape: Sequence[int | str]) -> Any:
    """Convert a graph to an ``onnx.ModelProto`` with one input, ``data``.

    A ValueError is raised if an operator cannot be translated.

    Parameters
    ----------
    graph
        A graph of the portable operators, with all its arrays.
    input_shape
        Shape of the input. A string names a dynamic dimension, as in ``("N", 3, 224, 224)``.
    """
    return convert(Writer(graph), {INPUT: input_shape})


def convert(
    writer: Writer, inputs: Mapping[str, Shape], lengths: tuple[int, int] = (448, 512)
) -> Any:
    """Write all nodes of the writer's graph; return the model after ONNX's checker passed it.

    ``inputs`` are the names and shapes of the graph's inputs, ``lengths`` two lengths of a dynamic
    dimension that the graph accepts.
    """
    import onnx
    from onnx import helper

    graph = writer.graph
    for node in graph.nodes():
        writer.write(node)
    names = [writer.name_of(entry) for entry in graph.heads]
    dtype = helper.np_dtype_to_tensor_dtype(writer.dtype)

    def infos(shapes: Iterable[tuple[str, Any]]) -> list[Any]:
        return [helper.make_tensor_value_info(name, dtype, list(shape)) for name, shape in shapes]

    sources, outputs = infos(inputs.items()), infos(zip(names, _shapes(graph, inputs, lengths)))
    name, opset = "gluondense", helper.make_opsetid("", OPSET)
    made = helper.make_graph(writer.nodes, name, sources, outputs, writer.constants)
    model = helper.make_model(
        made, opset_imports=[opset], ir_version=IR_VERSION, producer_name=name
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def open_shape(shape: Sequence[int]) -> tuple[int | str, ...]:
    """Return a shape whose dimensions are dynamic, except that of the channels.

    Examples
    --------
    >>> open_shape((1, 3, 224, 224))
    ('N', 3, 'H', 'W')
    """
    return tuple("NCHW"[axis] if axis in (0, 2, 3) else n for axis, n in enumerate(shape))


def set_metadata(model: Any, metadata: ExportMetadata) -> None:
    """Store the metadata in a model's ``metadata_props``, each field as JSON unless it is None."""
    from onnx import helper

    fields = dataclasses.asdict(metadata)
    del fields["sha256"]  # checksums of files, one of which contains this model
    fields |= {"mean": metadata.mean, "std": metadata.std}
    known = {key: value for key, value in fields.items() if value is not None}
    helper.set_model_props(model, {key: json.dumps(value) for key, value in known.items()})
    if metadata.preprocess:
        model.doc_string = f"{INPUT} is pixels of 0 to 255, uint8, in shape (N, H, W, C)."
    elif metadata.mean is not None and metadata.std is not None:
        model.doc_string = (
            f"{INPUT} is (pixels / 255 - mean) / std, with mean {list(metadata.mean)} and std "
            f"{list(metadata.std)}, one a channel, in shape (N, C, H, W)."
        )
    if metadata.preprocessing is not None:
        model.doc_string += f" Images: {metadata.preprocessing.describe()}."
    model.producer_version = metadata.versions["gluondense"]


def check_installed(target: str) -> None:
    """Raise a ValueError if a package that a target needs is not installed."""
    missing = [name for name in ("onnx", "onnxruntime") if not importlib.util.find_spec(name)]
    if missing:
        raise ValueError(
            f"target={target!r} needs {' and '.join(missing)}: pip install 'gluondense[onnx]'."
        )


def _shapes(
    graph: Graph, inputs: Mapping[str, Shape], lengths: tuple[int, int]
) -> list[list[int | str | None]]:
    """Return the outputs' shapes; None for a length that depends on a dynamic dimension."""
    symbol, params = graph.to_symbol()
    known = {name: array.shape for name, array in params.items()}
    batch = next(iter(inputs.values()))[0]

    def infer(length: int) -> list[tuple[int, ...]]:
        given = {
            name: tuple(n if isinstance(n, int) else length for n in shape)
            for name, shape in inputs.items()
        }
        return symbol.infer_shape(**known, **given)[1]

    # A length that differs between two input sizes is dynamic.
    return [
        [
            length if length == other else batch if axis == 0 else None
            for axis, (length, other) in enumerate(zip(*shapes))
        ]
        for shapes in zip(*map(infer, lengths))
    ]
