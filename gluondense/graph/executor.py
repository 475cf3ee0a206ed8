# SPDX-License-Identifier: Apache-2.0
"""MXNet's executor of a graph, bound to the arrays of a network's parameters on one device."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Optional

import mxnet as mx
from mxnet import gluon
from mxnet.ndarray import NDArray


class TrainingExecutor:
    """Runs a graph forward and backward on a network's own parameters, gradients and statistics.

    Parameters
    ----------
    symbol, data
        The graph, with one output, and the name of its input.
    x
        A batch (N, C, H, W), for its shape, dtype and device.
    parameters
        Parameters by name, initialized on the device of ``x``.
    shared
        Another executor on the device, whose memory this one may use too.
    """

    _executor: Any

    def __init__(
        self,
        symbol: mx.sym.Symbol,
        data: str,
        x: NDArray,
        parameters: gluon.ParameterDict,
        shared: Optional[TrainingExecutor] = None,
    ) -> None:
        self._context = x.context
        self._parameters = [parameters[name] for name in symbol.list_inputs() if name != data]
        self._input = mx.nd.empty(x.shape, x.context, x.dtype)
        self._bound = self._arrays()
        names = [parameter.name for parameter in self._parameters]
        gradients = {name: grad for name, (_, grad) in zip(names, self._bound) if grad is not None}
        # MXNet takes the arguments and auxiliary states that the graph has from these dictionaries.
        values = {data: self._input, **{n: value for n, (value, _) in zip(names, self._bound)}}
        requests = {data: "null", **{p.name: p.grad_req for p in self._parameters}}
        with _planning():
            memory = shared._executor if shared else None
            self._executor = symbol.bind(
                x.context, values, gradients, requests, aux_states=values, shared_exec=memory
            )

    @property
    def is_current(self) -> bool:
        """Whether the parameters' arrays are those that were bound; moving or casting makes new."""
        now = self._arrays()
        return all(a is b and g is h for (a, g), (b, h) in zip(now, self._bound))

    @property
    def planned_mb(self) -> int:
        """Megabytes that the executor planned for activations."""
        found = re.search(r"Total (\d+) MB allocated", self._executor.debug_str())
        return int(found[1]) if found else 0

    def forward(self, x: NDArray) -> NDArray:
        """Return the output for a batch, with a gradient attached."""
        x.copyto(self._input)
        (output,) = self._executor.forward(is_train=True)
        output = output.copy()  # the next step overwrites the executor's array
        output.attach_grad()
        return output

    def backward(self, head: NDArray) -> None:
        """Compute the parameters' gradients from the gradient of the output."""
        self._executor.backward([head])
        for value, gradient in self._bound:
            if gradient is not None:
                value._fresh_grad = True  # otherwise the trainer reports a stale gradient

    def _arrays(self) -> list[tuple[NDArray, Optional[NDArray]]]:
        context = self._context
        return [
            (p.data(context), p.grad(context) if p.grad_req != "null" else None)
            for p in self._parameters
        ]


@contextmanager
def _planning() -> Iterator[None]:
    """Let MXNet compare several memory plans and use the smallest, without log messages.

    By default it uses the first plan. It reads the environment variables at each binding; variables
    that the user has set are kept.
    """
    wanted = {"NNVM_AUTO_SEARCH_MATCH_RANGE": "1", "MXNET_SUBGRAPH_VERBOSE": "0"}
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
