"""What a graph becomes for each target: one function a row."""

from __future__ import annotations

import json
from typing import Callable

import mxnet as mx
import numpy as np

from ..models.spec import closest
from .graph import portable_json
from .ir import Graph, Params
from .native import as_program, load
from .passes import PASSES

Lowering = Callable[[mx.sym.Symbol, Params], "tuple[str, Params]"]


def portable(symbol: mx.sym.Symbol, params: Params) -> tuple[str, Params]:
    """Return the graph as it is, in the words of MXNet 1.4, and its arrays."""
    return portable_json(symbol), params


def onednn(symbol: mx.sym.Symbol, params: Params) -> tuple[str, Params]:
    """Return a graph of oneDNN's fused operators, and its arrays.

    Raises
    ------
    ValueError
        If this MXNet has no oneDNN, or the arrays are not float32.
    """
    if not mx.runtime.Features().is_enabled("MKLDNN"):
        raise ValueError("target='onednn' needs an MXNet with oneDNN: install mxnet==1.9.1.")
    _check_float32("onednn", params)
    symbol, params = _optimized(symbol, params).to_symbol()
    # oneDNN's own pass: convolution with ReLU and with addition.
    fused = symbol.get_backend_symbol("MKLDNN")
    return json.dumps(json.loads(fused.tojson()), indent=2) + "\n", params


def native(symbol: mx.sym.Symbol, params: Params) -> tuple[str, Params]:
    """Return a graph of one node, the operator of ``deploy.native``, and its array.

    Raises
    ------
    ValueError
        If the operator cannot be built here, has no step for some of the graph, or the arrays are
        not float32.
    """
    _check_float32("native", params)
    load()
    return as_program(_optimized(symbol, params))


TARGETS: dict[str, Lowering] = {"portable": portable, "onednn": onednn, "native": native}


def _check_float32(target: str, params: Params) -> None:
    dtypes = {array.dtype for array in params.values()} - {np.dtype("float32")}
    if dtypes:
        raise ValueError(
            f"target={target!r} is for float32 networks, not {', '.join(map(str, dtypes))}: "
            "call net.cast('float32') first."
        )


def _optimized(symbol: mx.sym.Symbol, params: Params) -> Graph:
    graph = Graph(symbol, params)
    for change in PASSES.values():
        change(graph)
    return graph


def get_target(name: str) -> Lowering:
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
