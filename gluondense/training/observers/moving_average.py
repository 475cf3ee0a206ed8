# SPDX-License-Identifier: Apache-2.0
"""An exponential moving average of the weights, which is evaluated in place of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import mxnet as mx
from mxnet import gluon

from ...files import save_arrays
from ...weights.formats.open import open_weights
from .base import Observer

if TYPE_CHECKING:
    from ..run import Run

_ARRAYS_PER_OPERATOR = 60  # the limit of MXNet's operator


class MovingAverage(Observer):
    """``average = decay * average + (1 - decay) * weight`` after each step, for all parameters.

    BatchNorm's running statistics are included. The averages, ``arrays`` by parameter name, are on
    the first device and begin at the parameters of ``net``. A ``decay`` of 0.9999 averages over
    some 10,000 steps.
    """

    def __init__(self, net: gluon.Block, decay: float) -> None:
        self._parameters = dict(sorted(net._collect_params_with_prefix().items()))
        self._decay = decay
        self.restart()

    def restart(self) -> None:
        """Begin at the present parameters."""
        self.arrays = self._weights()

    def on_step(self, run: Run) -> None:
        """Include the weights of this step, without waiting for them.

        ``TrainStep`` orders the steps and this observer (see ``training/running_statistics.py``).
        """
        names = list(self.arrays)
        for start in range(0, len(names), _ARRAYS_PER_OPERATOR):
            some = names[start : start + _ARRAYS_PER_OPERATOR]
            averages = [self.arrays[name] for name in some]
            weights = [self._parameters[name].list_data()[0] for name in some]
            # An SGD step towards the weights: average - (1 - decay) * (1 * average - weight).
            mx.nd.multi_sgd_update(
                *(array for pair in zip(averages, weights) for array in pair),
                lrs=(1 - self._decay,) * len(some),
                wds=(1.0,) * len(some),
                rescale_grad=-1.0,
                num_weights=len(some),
                out=averages,
            )

    @contextmanager
    def evaluating(self, run: Run) -> Iterator[None]:
        """Replace the network's parameters by the averages within the context."""
        weights = self._weights()
        self._set(self.arrays)
        try:
            yield
        finally:
            self._set(weights)

    def save(self, path: Path) -> None:
        """Write the averages as a parameter file."""
        save_arrays(path, self.arrays)

    def load(self, path: Path) -> None:
        """Read a file that :meth:`save` wrote."""
        open_weights(path).close()  # MXNet's reader trusts the sizes in a file
        for name, array in mx.nd.load(str(path)).items():
            array.copyto(self.arrays[name])

    def _weights(self) -> dict[str, mx.nd.NDArray]:
        return {name: p.list_data()[0].copy() for name, p in self._parameters.items()}

    def _set(self, arrays: dict[str, mx.nd.NDArray]) -> None:
        for name, parameter in self._parameters.items():
            parameter.set_data(arrays[name])
