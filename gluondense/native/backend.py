"""Training on a CPU with the native operator, within ordinary Gluon."""

from __future__ import annotations

from typing import Any

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon import nn
from mxnet.ndarray import NDArray

from .. import native
from ..graph.fuse_dense_stages import fuse_stages

BACKEND = "native"


class NativeTraining(nn.HybridBlock):
    """A block of one input whose dense stages a CPU trains with one operator each.

    Around convolutions in groups, as DPN has them, MXNet's own operators get the layouts that they
    are fast in. ``hybridize(backend="native")`` turns it on. From then on ``autograd.record()`` on
    float32 images in a CPU's memory records another graph of the same parameters; predictions,
    exports and other devices have the one that they always had.
    """

    memory_efficient: bool | str = False
    _cached_op: Any
    _cached_op_args: list[Any]
    _native = False
    # The operator with its arguments, and the arrays that they had when it was made.
    _training: tuple[Any, list[Any]] | None = None
    _mostly_native: bool | None = None
    _trained: tuple[tuple[Any, ...], ...] = ()

    def hybridize(
        self, active: bool = True, backend: str | None = None, *args: Any, **kwargs: Any
    ) -> None:
        """Turn static graphs on or off.

        Parameters
        ----------
        active, *args, **kwargs
            As in Gluon.
        backend
            ``"native"`` trains on a CPU with this project's own operator, which needs a C++
            compiler on the machine; others as in Gluon.

        Raises
        ------
        gluondense.native.CompilerError
            If the native operator is wanted and cannot be compiled.
        """
        wanted = active and backend == BACKEND
        if wanted:
            native.load(native.STAGE)
        super().hybridize(active, None if backend == BACKEND else backend, *args, **kwargs)
        self._native = wanted

    def is_native(self, x: NDArray) -> bool:
        """Whether training on an input has the graph for CPUs."""
        return self._native and _is_plain(x)

    def recomputes(self, x: NDArray) -> bool:
        """Whether ``autograd`` itself keeps little of an input where it shall be memory-efficient.

        Native stages recompute what they need; this is so if they have most of the network.
        """
        if not self.is_native(x):
            return False
        if self._mostly_native is None:
            usual = self._get_graph(x)[1]
            norms = [graph.tojson().count('"BatchNorm"') for graph in (usual, fuse_stages(usual))]
            self._mostly_native = 2 * norms[1] <= norms[0]
        return self._mostly_native

    def _clear_cached_op(self) -> None:
        super()._clear_cached_op()
        self._training = self._mostly_native = None

    def _call_cached_op(self, x: Any, *args: Any) -> Any:
        if not (autograd.is_training() and self.is_native(x)) or self._callback:
            return super()._call_cached_op(x, *args)
        if self._cached_op is None:
            self._build_cache(x, *args)
        usual = self._cached_op, self._cached_op_args
        self._cached_op, self._cached_op_args = self._training_op()
        try:
            return super()._call_cached_op(x, *args)
        finally:
            self._cached_op, self._cached_op_args = usual

    def _training_op(self) -> tuple[Any, list[Any]]:
        parameters = [of for is_input, of in self._cached_op_args if not is_input]
        arrays = tuple((of.grad_req, of._data, of._grad) for of in parameters)
        # MXNet's static graphs go on with a parameter's old arrays in backward if nothing but it
        # has changed, as `reset_ctx` does.
        if self._training is None or not _same(arrays, self._trained):
            self._training, self._trained = self._make_training_op(), arrays
        return self._training

    def _make_training_op(self) -> tuple[Any, list[Any]]:
        arguments = {
            "data" if is_input else of.name: (is_input, of) for is_input, of in self._cached_op_args
        }
        # Nobody can tell whether the image's gradient is added up.
        added = {
            name for name, (is_input, of) in arguments.items() if is_input or of.grad_req == "add"
        }
        graph = fuse_stages(
            self._cached_graph[1], added, self.memory_efficient not in (False, "none")
        )
        rows = [arguments[name] for name in graph.list_inputs()]
        flags = [
            ("data_indices", [i for i, (is_input, _) in enumerate(rows) if is_input]),
            ("param_indices", [i for i, (is_input, _) in enumerate(rows) if not is_input]),
        ]
        return mx.nd.CachedOp(graph, flags + self._flags), rows


def _same(now: tuple[tuple[Any, ...], ...], then: tuple[tuple[Any, ...], ...]) -> bool:
    return all(a is b for new, old in zip(now, then) for a, b in zip(new, old))


def _is_plain(x: Any) -> bool:
    return isinstance(x, NDArray) and x.context.device_type == "cpu" and x.dtype is np.float32
