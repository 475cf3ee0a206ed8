# SPDX-License-Identifier: Apache-2.0
"""``hybridize(backend="native")``: a CPU trains a Gluon network with the native operator."""

from __future__ import annotations

from itertools import chain
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon import nn
from mxnet.ndarray import NDArray

from ..graph.fuse_dense_stages import STAGE, fuse_stages
from .build import load

BACKEND = "native"


class NativeTraining(nn.HybridBlock):
    """A block with one input whose dense stages are trained by one native operator each.

    Grouped convolutions, as in DPN, keep MXNet's operators with memory layouts that suit oneDNN.
    After ``hybridize(backend="native")``, ``autograd.record()`` records another graph of the same
    parameters for float32 inputs on a CPU. Inference, exports and other devices use the original
    graph.
    """

    memory_efficient: bool | str = False
    _cached_op: Any
    _cached_op_args: list[Any]
    _native = False
    # The CachedOp for training with its arguments, and the parameter arrays that it was built for.
    _training: tuple[Any, list[Any]] | None = None
    _training_arrays: tuple[tuple[Any, ...], ...] = ()
    _mostly_native: bool | None = None

    def hybridize(
        self, active: bool = True, backend: str | None = None, *args: Any, **kwargs: Any
    ) -> None:
        """Activate or deactivate static graphs.

        Parameters
        ----------
        active, *args, **kwargs
            As in Gluon.
        backend
            ``"native"`` trains on a CPU with the native operator, which requires a C++ compiler.
            Other values as in Gluon.

        Raises
        ------
        gluondense.native.CompilerError
            If the native operator is requested and cannot be compiled.
        """
        native = active and backend == BACKEND
        if native:
            load(STAGE)
        super().hybridize(active, None if backend == BACKEND else backend, *args, **kwargs)
        self._native = native

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
        self._training = self._mostly_native = None

    def _call_cached_op(self, x: Any, *args: Any) -> Any:
        if not (autograd.is_training() and self.is_native(x)) or self._callback:
            return super()._call_cached_op(x, *args)
        if self._cached_op is None:
            self._build_cache(x, *args)
        original = self._cached_op, self._cached_op_args
        self._cached_op, self._cached_op_args = self._training_op()
        try:
            return super()._call_cached_op(x, *args)
        finally:
            self._cached_op, self._cached_op_args = original

    def _training_op(self) -> tuple[Any, list[Any]]:
        parameters = [of for is_input, of in self._cached_op_args if not is_input]
        arrays = tuple((of.grad_req, of._data, of._grad) for of in parameters)
        # If only a parameter's arrays change, as in `reset_ctx`, the backward pass of MXNet's
        # static graphs continues with the old ones.
        pairs = zip(chain(*arrays), chain(*self._training_arrays))
        if self._training is None or not all(new is old for new, old in pairs):
            self._training, self._training_arrays = self._make_training_op(), arrays
        return self._training

    def _make_training_op(self) -> tuple[Any, list[Any]]:
        arguments = {
            "data" if is_input else of.name: (is_input, of) for is_input, of in self._cached_op_args
        }
        # The grad_req of the input is unknown here; it may be "add".
        added = {
            name for name, (is_input, of) in arguments.items() if is_input or of.grad_req == "add"
        }
        graph = fuse_stages(
            self._cached_graph[1], added, self.memory_efficient not in (False, "none")
        )
        ordered = [arguments[name] for name in graph.list_inputs()]
        flags = [
            ("data_indices", [i for i, (is_input, _) in enumerate(ordered) if is_input]),
            ("param_indices", [i for i, (is_input, _) in enumerate(ordered) if not is_input]),
        ]
        return mx.nd.CachedOp(graph, flags + self._flags), ordered
