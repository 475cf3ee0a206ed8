"""Networks as ONNX models: each of MXNet's operators becomes one or a few of opset 13.

MXNet's own exporter lists all parameters as inputs too, which keeps readers from folding them, says
an opset that it does not write, and needs an old ``onnx``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..ir import Graph
from .graph import INPUT
from .onnx_operators import Writer

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
    import onnx
    from onnx import helper

    writer = Writer(graph)
    for node in graph.nodes():
        writer.write(node)
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
