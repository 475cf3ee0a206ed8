# SPDX-License-Identifier: Apache-2.0
"""Networks whose float16 graph on a GPU is in the memory layout of their spec."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.ndarray import NDArray

from ..graph.channels_last import use_channels_last
from ..graph.ir import Graph
from ..native.backend import NativeTraining
from .spec import NetworkSpec


class ChannelsLast(NativeTraining):
    """A network that computes in NHWC for float16 inputs on a GPU, if its spec says so.

    All other inputs, exports, and the parameters' shapes are those of NCHW: the layout is a pass
    over the graph, :mod:`gluondense.graph.channels_last`, not an argument of each layer. So the
    blocks of all families, and those of GluonCV around them, need not know of it.
    """

    spec: NetworkSpec

    def is_channels_last(self, x: Any) -> bool:
        """Return whether an input runs in NHWC."""
        if self.spec.layout != "NHWC" or not isinstance(x, NDArray):
            return False
        return x.dtype is np.float16 and x.context.device_type == "gpu"

    def _other_graph(self, x: Any) -> Callable[[], mx.sym.Symbol] | None:
        return self._nhwc_graph if self.is_channels_last(x) else super()._other_graph(x)

    def _nhwc_graph(self) -> mx.sym.Symbol:
        graph = Graph(self._cached_graph[1], {})
        use_channels_last(graph)
        return mx.sym.load_json(graph.to_json())
