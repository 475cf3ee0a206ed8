"""What a graph becomes for each target: one row each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import Callable

import mxnet as mx
import numpy as np

from ..errors import closest
from ..graph.inference_passes import PASSES
from ..graph.ir import Graph, Lowered, Params
from ..graph.trace import portable_json
from ..native.program import as_byte_program, as_program, load
from .onnx.convert import check_installed, open_shape, to_onnx
from .onnx.int8 import onnx_int8 as quantized_onnx
from .quantization.calibration import Calibration
from .quantization.onednn_int8 import int8 as quantized

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Target:
    """A kind of graph.

    Parameters
    ----------
    lower
        Makes it of a network's graph, its arrays, the shape of its input and, where it needs one, a
        calibration whose images have been read.
    needs_calibration
        Whether it is one of 8 bits. It is checked on the calibration's images then.
    check
        Raises a ValueError where what it needs is missing.
    keeps_layers
        Whether layers that 8 bits harm stay in float.
    tolerance
        How far outputs may be from the network's, as a part of the largest; None for what the
        type of the parameters makes of it.
    """

    lower: Callable[..., Lowered]
    needs_calibration: bool = False
    check: Callable[[], None] = lambda: None
    keeps_layers: bool = True
    tolerance: float | None = None


def portable(symbol: mx.sym.Symbol, params: Params, shape: Shape) -> Lowered:
    """Return the graph as it is, in the words of MXNet 1.4, and its arrays."""
    return Lowered(portable_json(symbol), params)


def onednn(symbol: mx.sym.Symbol, params: Params, shape: Shape) -> Lowered:
    """Return a graph of oneDNN's fused operators, and its arrays.

    Raises
    ------
    ValueError
        If this MXNet has no oneDNN, or the arrays are not float32.
    """
    _check_onednn("onednn", params)
    symbol, params = _optimized(symbol, params).to_symbol()
    # oneDNN's own pass: convolution with ReLU and with addition.
    fused = symbol.get_backend_symbol("MKLDNN")
    return Lowered(json.dumps(json.loads(fused.tojson()), indent=2) + "\n", params)


def int8(symbol: mx.sym.Symbol, params: Params, shape: Shape, calibration: Calibration) -> Lowered:
    """Return a graph of oneDNN's 8-bit operators, and its arrays.

    Raises
    ------
    ValueError
        As :func:`onednn`, or if the calibration keeps layers that are not there.
    """
    _check_onednn("int8", params)
    # A normalization becomes a convolution and takes the ReLU with it.
    return quantized(_optimized(symbol, params, without="fuse_batch_norm_relu"), calibration)


def native(symbol: mx.sym.Symbol, params: Params, shape: Shape) -> Lowered:
    """Return a graph of one node, the operator of ``deploy.native``, and its array.

    Raises
    ------
    ValueError
        If the operator cannot be built here, has no step for some of the graph, or the arrays are
        not float32.
    """
    _check_float32("native", params)
    load()
    return Lowered(*as_program(_optimized(symbol, params)))


def native_bf16(symbol: mx.sym.Symbol, params: Params, shape: Shape) -> Lowered:
    """Return a graph of one node that multiplies in bfloat16 in 1x1 convolutions, and its array.

    Raises
    ------
    ValueError
        As :func:`native`.
    """
    _check_float32("native_bf16", params)
    load()
    return Lowered(*as_program(_optimized(symbol, params), bf16=True))


def native_int8(
    symbol: mx.sym.Symbol, params: Params, shape: Shape, calibration: Calibration
) -> Lowered:
    """Return a graph of one node that computes in bytes, and its arrays.

    Raises
    ------
    ValueError
        As :func:`native`, or if the calibration keeps layers.
    """
    _check_float32("native_int8", params)
    load()
    if calibration.keep:
        raise ValueError(
            f"keep (={calibration.keep}): target='native_int8' keeps no layers in float; use "
            "target='int8'."
        )
    return as_byte_program(
        _optimized(symbol, params),
        calibration.batches(),
        calibration.method,
        calibration.percentile,
    )


def onnx(symbol: mx.sym.Symbol, params: Params, shape: Shape) -> Lowered:
    """Return an ONNX model whose N, H and W are open.

    Raises
    ------
    ValueError
        If ONNX cannot say what an operator does, or the arrays are not float32.
    """
    _check_float32("onnx", params)
    graph = _optimized(symbol, params, without="fuse_batch_norm_relu")
    return Lowered(to_onnx(graph, open_shape(shape)), {})


def onnx_int8(
    symbol: mx.sym.Symbol, params: Params, shape: Shape, calibration: Calibration
) -> Lowered:
    """Return an ONNX model whose layers compute in 8 bits.

    Raises
    ------
    ValueError
        As :func:`onnx`, or if the calibration keeps layers that are not there.
    """
    _check_float32("onnx_int8", params)
    graph = _optimized(symbol, params, without="fuse_batch_norm_relu")
    return quantized_onnx(graph, calibration)


TARGETS: dict[str, Target] = {
    "portable": Target(portable),
    "onednn": Target(onednn),
    "native": Target(native),
    "native_bf16": Target(native_bf16, tolerance=0.05),
    "int8": Target(int8, needs_calibration=True),
    "native_int8": Target(native_int8, needs_calibration=True, keeps_layers=False),
    "onnx": Target(onnx, check=partial(check_installed, "onnx")),
    "onnx_int8": Target(onnx_int8, True, partial(check_installed, "onnx_int8")),
}


def _check_onednn(target: str, params: Params) -> None:
    if not mx.runtime.Features().is_enabled("MKLDNN"):
        raise ValueError(f"target={target!r} needs an MXNet with oneDNN: install mxnet==1.9.1.")
    _check_float32(target, params)


def _check_float32(target: str, params: Params) -> None:
    dtypes = {array.dtype for array in params.values()} - {np.dtype("float32")}
    if dtypes:
        raise ValueError(
            f"target={target!r} is for float32 networks, not {', '.join(map(str, dtypes))}: "
            "call net.cast('float32') first."
        )


def _optimized(symbol: mx.sym.Symbol, params: Params, without: str = "") -> Graph:
    graph = Graph(symbol, params)
    for name, change in PASSES.items():
        if name != without:
            change(graph)
    return graph


def get_target(name: str) -> Target:
    """Look up a target.

    Raises
    ------
    ValueError
        If there is no such target.
    """
    if name not in TARGETS:
        raise ValueError(
            f"unknown target {name!r}{closest(str(name), TARGETS)} (known: {', '.join(TARGETS)})."
        )
    return TARGETS[name]
