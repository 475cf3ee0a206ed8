# SPDX-License-Identifier: Apache-2.0
"""A network's inference with the native operator, without files."""

from __future__ import annotations

import mxnet as mx
from mxnet import gluon

from ..graph.ranges import as_block
from ..graph.split_detector import split_detector
from ..graph.trace import trace
from .detector import lower_detector
from .exporter import parameter_arrays
from .targets import lower_to

TARGET = "native"


def native_block(net: gluon.HybridBlock) -> gluon.SymbolBlock:
    """Return a block that predicts on the CPU as the target ``native`` of an export does.

    It has copies of the present parameters of ``net``, on the first of its contexts. ``net`` is
    initialized and has been called or knows its shapes.

    Raises
    ------
    ValueError
        If the network has an operator that the native one has no counterpart of, or is not in
        float32.
    gluondense.native.CompilerError
        If the native operator cannot be compiled.
    """
    symbol, params = trace(net), parameter_arrays(net)
    detector = split_detector(symbol)
    if detector is None:
        lowered = lower_to(TARGET, symbol, params, ())
    else:
        lowered, _ = lower_detector(TARGET, net, detector, params, (), None)
    ctx = next(iter(net.collect_params().values())).list_ctx()[0]
    block = as_block(mx.sym.load_json(lowered.graph), lowered.params, ctx)
    block.hybridize(static_alloc=True, static_shape=True)
    return block
