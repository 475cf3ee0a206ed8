# SPDX-License-Identifier: Apache-2.0
"""Target "int8": graphs of oneDNN's int8 operators, which stock MXNet runs."""

from __future__ import annotations

import json

import mxnet as mx
import numpy as np
from mxnet import gluon
from mxnet.contrib import quantization as mxnet_quantization

from ...graph.ir import Graph, Lowered, Params
from ...graph.ranges import as_block, collect_ranges, tensor_names
from ...graph.trace import INPUT, indented_json
from ..outputs import all_outputs
from .calibration import Calibration
from .equalize import convolve_batch_norms, equalize_channels, equalize_grouped_filters, is_affine
from .sensitivity import select_excluded


def quantize_onednn(graph: Graph, calibration: Calibration) -> Lowered:
    """Lower a graph to oneDNN's int8 operators.

    Parameters
    ----------
    graph
        The float32 network after the inference passes except ``fuse_batch_norm_relu``.
    calibration
        Calibration whose images have been read. If a pattern of its ``exclude`` matches no layer, a
        ValueError is raised.
    """
    graph.rename_duplicates()
    for node in graph.operators():
        if node.is_like("Activation", act_type="sigmoid"):
            # Equal in float32; MXNet's pass warns about each Activation that it cannot quantize.
            node.op, node.attrs = "sigmoid", {}
        elif node.op == "elemwise_mul":
            # Equal for equal shapes; MXNet's pass quantizes elemwise_mul, whose kernel then fails.
            node.op = "broadcast_mul"
    return _Quantizer(graph, calibration).lower()


class _Quantizer:
    """The equalized float graph, its calibration ranges, and its quantization with MXNet's pass."""

    def __init__(self, graph: Graph, calibration: Calibration) -> None:
        self.calibration, batches = calibration, calibration.batches()
        convolve_batch_norms(graph, calibration.images.shape)
        self.required = equalize_grouped_filters(graph)
        symbol, params = graph.to_symbol()
        self.expected = all_outputs(as_block(symbol, params), batches)
        ranges = collect_ranges(symbol, params, tensor_names(symbol, params), batches, "minmax")
        exact = equalize_channels(graph, ranges)
        self.affines = {
            node.source(1).name: node.name for node in graph.operators() if is_affine(node)
        }
        symbol, self.params = graph.to_symbol()
        # Fuses convolution with ReLU and addition; MXNet names the new nodes by number.
        self.symbol = symbol.get_backend_symbol("MKLDNN_QUANTIZE")
        names, method = tensor_names(self.symbol, self.params), calibration.method
        found = collect_ranges(
            self.symbol, self.params, names, batches, method, calibration.percentile
        )
        self.thresholds = {name: (range.low, range.high) for name, range in found.items()}
        self.layers: list[str] = []
        for node in json.loads(self.symbol.tojson())["nodes"]:
            for row in (row for part in node.get("subgraphs", []) for row in part["nodes"]):
                if row["op"] in ("Convolution", "FullyConnected"):
                    self.layers.append(row["name"])
                if f"{row['name']}_output" in exact:
                    self.thresholds[f"{node['name']}_output"] = exact[f"{row['name']}_output"]

    def lower(self) -> Lowered:
        def build(excluded: set[str]) -> gluon.SymbolBlock:
            return as_block(*self._quantize(excluded))

        excluded, record = select_excluded(
            self.layers, self.calibration, build, self.expected, self.required
        )
        symbol, params = self._quantize(excluded)
        return Lowered(indented_json(symbol), params, record)

    def _quantize(self, excluded: set[str]) -> tuple[mx.sym.Symbol, Params]:
        quantized, _ = mxnet_quantization._quantize_symbol(
            self.symbol,
            mx.cpu(),
            excluded_symbols=sorted(excluded),
            quantized_dtype="auto",
            quantize_mode="smart",
            quantize_granularity="channel-wise",
        )
        quantized = mxnet_quantization._calibrate_quantized_sym(quantized, self.thresholds)
        symbol = quantized.get_backend_symbol("MKLDNN_QUANTIZE")
        names = {*symbol.list_arguments(), *symbol.list_auxiliary_states()} - {INPUT}
        return symbol, {name: self._array(name, excluded) for name in sorted(names)}

    def _array(self, name: str, excluded: set[str]) -> np.ndarray:
        array = self.params[name]
        if self.affines.get(name) in {None, *excluded}:
            return array
        # MXNet scales the largest weight of a channel to 127.5, which int8 clips to 127 or -128.
        # Each weight of an affine operator is the largest of its channel, so that all would be
        # wrong by 0.4 %.
        clipped = np.where(array > 0, np.float32(127), np.float32(128))
        return array * (np.float32(127.5) / clipped)
