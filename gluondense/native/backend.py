# SPDX-License-Identifier: Apache-2.0
"""``hybridize(backend="native")``: a CPU trains a Gluon network with the native operator."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon import nn
from mxnet.ndarray import NDArray

from ..errors import check_choice
from ..graph.dual_path_stages import DUAL_PATH_STAGE
from ..graph.fuse_dense_stages import STAGE, fuse_stages
from ..graph.residual_stages import RESIDUAL_STAGE
from ..graph.trace import trace
from .build import load

BACKEND = "native"
DTYPES = ("float32", "bfloat16")
STAGES = (STAGE, DUAL_PATH_STAGE, RESIDUAL_STAGE)


class NativeTraining(nn.HybridBlock):
    """A block with one input whose stages and stem are trained by one native operator each.

    These are dense and dual-path stages, and those of CSPResNeXt. Other convolutions, as in
    CSPResNet, keep MXNet's operators with memory layouts that suit oneDNN.
    After ``hybridize(backend="native")``, ``autograd.record()`` records another graph of the same
    parameters for float32 inputs on a CPU. Inference, exports and other devices use the original
    graph. With ``dtype="bfloat16"`` the stages store feature maps and their gradients, and multiply
    1x1 convolutions, in bfloat16. Parameters, their gradients, statistics and the sums of products
    stay in float32. The stem, Conv7x7-BN-ReLU-MaxPool, keeps MXNet's operators where the input has
    a gradient.
    """

    memory_efficient: bool | str = False
    _cached_op: Any
    _cached_op_args: list[Any]
    _native = False
    _native_dtype = "float32"
    # Of each other graph: the CachedOp with its arguments, and the arrays that it was built for.
    _ops: Mapping[str, tuple[tuple[Any, list[Any]], list[Any]]] = MappingProxyType({})
    _mostly_native: bool | None = None

    def hybridize(
        self,
        active: bool = True,
        backend: str | None = None,
        *args: Any,
        dtype: str = "float32",
        **kwargs: Any,
    ) -> None:
        """Activate or deactivate static graphs.

        Parameters
        ----------
        active, *args, **kwargs
            As in Gluon.
        backend
            ``"native"`` trains on a CPU with the native operator, which requires a C++ compiler.
            Other values as in Gluon.
        dtype
            ``"bfloat16"`` trains the stages of the native operators in bfloat16.

        Raises
        ------
        gluondense.native.CompilerError
            If the native operator is requested and cannot be compiled.
        ValueError
            If ``dtype`` is unknown, or bfloat16 without the native operator or for a network that
            it trains nothing of.
        """
        native = active and backend == BACKEND
        check_choice("dtype", dtype, DTYPES)
        if native:
            for stage in STAGES:
                load(stage)
        if dtype == "bfloat16" and active:
            self._check_bfloat16(native)
        super().hybridize(active, None if backend == BACKEND else backend, *args, **kwargs)
        self._native, self._native_dtype = native, dtype

    def _check_bfloat16(self, native: bool) -> None:
        if not native:
            raise ValueError(
                "`dtype` bfloat16 needs the native operator: hybridize with backend='native', or "
                "choose float32."
            )
        graph = fuse_stages(trace(self)).tojson()
        if not any(stage in graph for stage in STAGES):
            raise ValueError(
                "`dtype` bfloat16 is for stages that the native operators train, and this "
                "network has none: choose float32."
            )

    def native_dtype(self, x: NDArray) -> str | None:
        """Return the dtype of the native stages that train on an input; None without any."""
        return self._native_dtype if self.is_native(x) else None

    def is_native(self, x: NDArray) -> bool:
        """Return whether training on an input uses the graph for CPUs."""
        is_float32 = isinstance(x, NDArray) and x.dtype is np.float32
        return self._native and is_float32 and x.context.device_type == "cpu"

    def recomputes(self, x: NDArray) -> bool:
        """Return whether the native stages do the recomputation of ``memory_efficient``.

        This is the case if they contain at least half of the network's normalizations. No other
        memory-efficient execution is needed then.
        """
        if not self.is_native(x):
            return False
        if self._mostly_native is None:
            graph = self._get_graph(x)[1]
            total, left = (g.tojson().count('"BatchNorm"') for g in (graph, fuse_stages(graph)))
            self._mostly_native = 2 * left <= total
        return self._mostly_native

    def _clear_cached_op(self) -> None:
        super()._clear_cached_op()
        self._ops, self._mostly_native = {}, None

    def _other_graph(self, x: Any) -> Callable[[], mx.sym.Symbol] | None:
        """Return what makes the graph that an input needs instead of the original one, if any."""
        if not (autograd.is_training() and self.is_native(x)):
            return None
        return self._native_graph_to_input if _is_differentiated(x) else self._native_graph

    def _call_cached_op(self, x: Any, *args: Any) -> Any:
        make_graph = None if self._callback else self._other_graph(x)
        if make_graph is None:
            return super()._call_cached_op(x, *args)
        if self._cached_op is None:
            self._build_cache(x, *args)
        original = self._cached_op, self._cached_op_args
        self._cached_op, self._cached_op_args = self._find_op(make_graph)
        try:
            return super()._call_cached_op(x, *args)
        finally:
            self._cached_op, self._cached_op_args = original

    def _find_op(self, make_graph: Callable[[], mx.sym.Symbol]) -> tuple[Any, list[Any]]:
        """Return the CachedOp of another graph of the same parameters, and its arguments."""
        parameters = [of for is_input, of in self._cached_op_args if not is_input]
        arrays = [array for of in parameters for array in (of.grad_req, of._data, of._grad)]
        name = make_graph.__name__
        # If only a parameter's arrays change, as in `reset_ctx`, the backward pass of MXNet's
        # static graphs continues with the old ones.
        if name not in self._ops or not all(map(operator.is_, arrays, self._ops[name][1])):
            self._ops = {**self._ops, name: (self._make_op(make_graph()), arrays)}
        return self._ops[name][0]

    def _make_op(self, graph: mx.sym.Symbol) -> tuple[Any, list[Any]]:
        arguments = self._arguments_by_name()
        ordered = [arguments[name] for name in graph.list_inputs()]
        flags = [
            ("data_indices", [i for i, (is_input, _) in enumerate(ordered) if is_input]),
            ("param_indices", [i for i, (is_input, _) in enumerate(ordered) if not is_input]),
        ]
        return mx.nd.CachedOp(graph, flags + self._flags), ordered

    def _native_graph(self) -> mx.sym.Symbol:
        """Return the graph for inputs without a gradient."""
        return self._make_native_graph(input_gradient=False)

    def _native_graph_to_input(self) -> mx.sym.Symbol:
        """Return the graph that also has the gradient of the input; its stem is MXNet's."""
        return self._make_native_graph(input_gradient=True)

    def _make_native_graph(self, input_gradient: bool) -> mx.sym.Symbol:
        # The grad_req of the input is unknown here; it may be "add".
        added = {
            name
            for name, (is_input, of) in self._arguments_by_name().items()
            if (input_gradient if is_input else of.grad_req == "add")
        }
        recompute = self.memory_efficient not in (False, "none")
        graph, dtype = self._cached_graph[1], self._native_dtype
        return fuse_stages(graph, added, recompute, dtype, stem=not input_gradient)

    def _arguments_by_name(self) -> dict[str, Any]:
        return {
            "data" if is_input else of.name: (is_input, of) for is_input, of in self._cached_op_args
        }


def _is_differentiated(x: NDArray) -> bool:
    """Return whether autograd computes the gradient of an array, or passes it on."""
    try:
        autograd.get_symbol(x)
    except mx.base.MXNetError:  # the array is no part of a recorded graph
        return False
    return True
