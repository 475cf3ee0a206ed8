# SPDX-License-Identifier: Apache-2.0
"""Export targets: a table of the ways to lower a network's graph."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Callable

import mxnet as mx
import numpy as np

from ..errors import check_known
from ..graph.inference_passes import optimize
from ..graph.ir import Graph, Lowered, Params
from ..graph.trace import indented_json, portable_json
from ..native.build import load
from ..native.program.lower import to_program
from .onnx.convert import check_installed, open_shape, to_onnx
from .onnx.int8 import quantize_onnx
from .quantization.calibration import Calibration
from .quantization.native_int8 import quantize_native
from .quantization.onednn_int8 import quantize_onednn

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Target:
    """A kind of exported graph.

    Parameters
    ----------
    lower
        Lowers a network's graph and arrays. The third argument is the shape of the input, or, if
        ``needs_calibration``, a calibration whose images have been read. It raises a ValueError if
        the graph has an unsupported operator or the calibration an unsupported option.
    needs_calibration
        Whether the target is int8. The export is then verified on the calibration's images.
    check
        Raises a ValueError if a requirement of the target is missing.
    tolerance
        Largest difference of the outputs, relative to the largest output; None for the tolerance of
        the parameters' dtype.
    """

    lower: Callable[..., Lowered]
    needs_calibration: bool = False
    check: Callable[[], None] = lambda: None
    tolerance: float | None = None


def portable(symbol: mx.sym.Symbol, params: Params, shape: Shape) -> Lowered:
    """Keep the graph and its arrays, serialized for MXNet 1.4 and later."""
    return Lowered(portable_json(symbol), params)


def onednn(symbol: mx.sym.Symbol, params: Params, shape: Shape) -> Lowered:
    """Lower to oneDNN's fused operators."""
    symbol, params = optimize(Graph(symbol, params)).to_symbol()
    # MXNet's oneDNN pass fuses convolution with ReLU and with addition.
    return Lowered(indented_json(symbol.get_backend_symbol("MKLDNN")), params)


def int8(symbol: mx.sym.Symbol, params: Params, calibration: Calibration) -> Lowered:
    """Lower to oneDNN's int8 operators."""
    return quantize_onednn(_without_fused_relu(symbol, params), calibration)


def native(symbol: mx.sym.Symbol, params: Params, shape: Shape, bf16: bool = False) -> Lowered:
    """Lower to one native operator; with ``bf16``, convolutions multiply in bfloat16."""
    load()
    return Lowered(*to_program(optimize(Graph(symbol, params)), bf16=bf16))


def native_int8(symbol: mx.sym.Symbol, params: Params, calibration: Calibration) -> Lowered:
    """Lower to one native operator that computes in int8."""
    load()
    return quantize_native(optimize(Graph(symbol, params)), calibration)


def onnx(symbol: mx.sym.Symbol, params: Params, shape: Shape) -> Lowered:
    """Lower to an ONNX model with dynamic N, H and W."""
    return Lowered(to_onnx(_without_fused_relu(symbol, params), open_shape(shape)), {})


def onnx_int8(symbol: mx.sym.Symbol, params: Params, calibration: Calibration) -> Lowered:
    """Lower to an ONNX model with int8 layers."""
    return quantize_onnx(_without_fused_relu(symbol, params), calibration)


def _without_fused_relu(symbol: mx.sym.Symbol, params: Params) -> Graph:
    """Optimize for targets that convert batch normalization and fuse the ReLU themselves."""
    return optimize(Graph(symbol, params), skip="fuse_batch_norm_relu")


def _check_onednn(target: str) -> None:
    if not mx.runtime.Features().is_enabled("MKLDNN"):
        raise ValueError(f"target={target!r} needs an MXNet with oneDNN: install mxnet==1.9.1.")


TARGETS: dict[str, Target] = {
    "portable": Target(portable),
    "onednn": Target(onednn, check=partial(_check_onednn, "onednn")),
    "native": Target(native),
    "native_bf16": Target(partial(native, bf16=True), tolerance=0.05),
    "int8": Target(int8, True, partial(_check_onednn, "int8")),
    "native_int8": Target(native_int8, True),
    "onnx": Target(onnx, check=partial(check_installed, "onnx")),
    "onnx_int8": Target(onnx_int8, True, partial(check_installed, "onnx_int8")),
}


def get_target(name: str) -> Target:
    """Look up a target; raise a ValueError that names similar ones if it is unknown."""
    check_known("target", name, TARGETS)
    return TARGETS[name]


def lower_to(
    target: str,
    symbol: mx.sym.Symbol,
    params: Params,
    shape: Shape,
    calibration: Calibration | None = None,
) -> Lowered:
    """Lower a network's graph and arrays; raise a ValueError if the target does not support them.

    Only ``"portable"`` supports other dtypes than float32.
    """
    dtypes = {array.dtype for array in params.values()} - {np.dtype("float32")}
    if dtypes and target != "portable":
        raise ValueError(
            f"target={target!r} is for float32 networks, not {', '.join(map(str, dtypes))}: "
            "call net.cast('float32') first."
        )
    row = TARGETS[target]
    return row.lower(symbol, params, calibration if row.needs_calibration else shape)
