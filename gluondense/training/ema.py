"""A moving average of the weights, updated with few operators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mxnet as mx
from mxnet import gluon

_AT_ONCE = 50  # arrays an operator; MXNet's takes up to 60


class MovingAverage:
    """``average = decay * average + (1 - decay) * weight`` after each step, of all parameters.

    BatchNorm's running statistics are among them. It lives on the first device.

    Parameters
    ----------
    net
        An initialized network, whose parameters the average starts from.
    decay
        Between 0 and 1; 0.9999 remembers 10,000 steps.
    """

    def __init__(self, net: gluon.Block, decay: float) -> None:
        self._parameters = dict(sorted(net._collect_params_with_prefix().items()))
        self._decay = decay
        self.arrays = {name: p.list_data()[0].copy() for name, p in self._parameters.items()}

    def update(self) -> None:
        """Take in the weights as they are now."""
        names = list(self.arrays)
        for at in range(0, len(names), _AT_ONCE):
            some = names[at : at + _AT_ONCE]
            averages = [self.arrays[name] for name in some]
            pairs = zip(averages, (self._parameters[name].list_data()[0] for name in some))
            # SGD towards the weights: average - (1 - decay) * (1 * average - weight).
            count = len(some)
            mx.nd.multi_sgd_update(
                *(array for pair in pairs for array in pair),
                lrs=(1 - self._decay,) * count,
                wds=(1.0,) * count,
                rescale_grad=-1.0,
                num_weights=count,
                out=averages,
            )

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the average into the network for a while."""
        kept = {name: p.list_data()[0].copy() for name, p in self._parameters.items()}
        self._put(self.arrays)
        try:
            yield
        finally:
            self._put(kept)

    def save(self, path: Path) -> None:
        """Write it as a parameter file."""
        mx.nd.save(str(path), self.arrays)

    def load(self, path: Path) -> None:
        """Read what ``save`` wrote."""
        for name, array in mx.nd.load(str(path)).items():
            array.copyto(self.arrays[name])

    def _put(self, arrays: dict[str, mx.nd.NDArray]) -> None:
        for name, parameter in self._parameters.items():
            parameter.set_data(arrays[name])
