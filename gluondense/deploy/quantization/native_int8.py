# SPDX-License-Identifier: Apache-2.0
"""Target "native_int8": programs of the native operator in int8."""

from __future__ import annotations

import mxnet as mx
from mxnet import gluon

from ...graph.ir import Graph, Lowered
from ...graph.ranges import as_block, collect_ranges
from ...native.program.lower import to_program
from ...native.program.lower_int8 import Int8Lowering, to_int8_program
from ..outputs import all_outputs
from .calibration import Calibration
from .sensitivity import select_excluded


def quantize_native(graph: Graph, calibration: Calibration) -> Lowered:
    """Lower a graph to one native operator that computes in int8.

    Layers that are sensitive to quantization stay in float32, see :func:`select_excluded`.

    Parameters
    ----------
    graph
        A graph after the passes of :mod:`gluondense.graph.inference_passes`.
    calibration
        Calibration whose images have been read.

    Raises
    ------
    ValueError
        If an operator has no step, or a pattern of the calibration's ``exclude`` matches no layer.
    """
    graph.rename_duplicates()
    batches = calibration.batches()
    traced = graph.to_symbol()  # before operators that only programs have
    lowering = Int8Lowering(graph)
    method, percentile = calibration.method, calibration.percentile
    ranges = collect_ranges(*traced, lowering.tensors(), batches, method, percentile)
    layers, always_in_float = lowering.layers()

    def build(excluded: set[str]) -> gluon.SymbolBlock:
        program, params = to_int8_program(graph, ranges, excluded)
        return as_block(mx.sym.load_json(program), params)

    program, params = to_program(graph)
    expected = all_outputs(as_block(mx.sym.load_json(program), params), batches)
    excluded, record = select_excluded(layers, calibration, build, expected, always_in_float)
    return Lowered(*to_int8_program(graph, ranges, excluded), record)
