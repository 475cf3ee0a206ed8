# SPDX-License-Identifier: Apache-2.0
"""Order of the operators that read and write BatchNorm's running statistics."""

from __future__ import annotations

from collections.abc import Iterable

import mxnet as mx
from mxnet import gluon

_ARRAYS_PER_OPERATOR = 60  # the limit of MXNet's operator


class RunningStatistics:
    """The running means and variances of a network, as MXNet's engine should see them.

    The engine does not know that an operator of a static graph writes running statistics: it only
    knows that the operator reads them. An operator that reads them too could run before the graph
    or at the same time, although it was issued after the graph: a copy to the host, an evaluation,
    a moving average, or the first step of ``gluon.Trainer`` on several devices, whose broadcast of
    all parameters would revert the update.
    """

    def __init__(self, net: gluon.Block) -> None:
        self._parameters = list(net.collect_params(".*running_(mean|var)$").values())

    def declare_write(self, contexts: Iterable[mx.Context]) -> None:
        """Issue a write that changes no finite value, on some devices.

        It runs after all operators that were issued before and read or write running statistics,
        and before those that are issued later. The host does not wait.
        """
        # Parameters with deferred initialization have no arrays, so nothing reads them yet.
        initialized = [p for p in self._parameters if p._data is not None]
        for context in contexts:
            arrays = [parameter.data(context) for parameter in initialized]
            for start in range(0, len(arrays), _ARRAYS_PER_OPERATOR):
                some = arrays[start : start + _ARRAYS_PER_OPERATOR]
                zeros = (0.0,) * len(some)
                # An SGD step with the learning rate 0; the gradients may be any arrays.
                mx.nd.multi_sgd_update(
                    *(array for array in some for _ in ("weight", "gradient")),
                    lrs=zeros,
                    wds=zeros,
                    num_weights=len(some),
                    out=some,
                )
