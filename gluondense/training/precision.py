"""Half precision: which operators run in it, and the scale that keeps gradients in range.

The parameters, their gradients, the momenta and the running statistics stay in float32; a graph for
half precision rounds what its convolutions and fully-connected layers read, with MXNet AMP's own
casts and by its lists, as far as these hold here. Nothing is changed process-wide, unlike by
``amp.init()``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable

import mxnet as mx
from mxnet import gluon

from .config import DTYPES

LARGEST_SCALE = 2.0**24
GOOD_STEPS = 2000  # before the scale is doubled again, as in MXNet AMP


def check_dtype(dtype: str, devices: Sequence[mx.Context]) -> None:
    """Make sure that the devices can train in this precision.

    Raises
    ------
    ValueError
        If one can't.

    Examples
    --------
    >>> check_dtype("bfloat16", [mx.cpu()])
    """
    if dtype not in DTYPES:
        raise ValueError(f"`dtype` must be one of {', '.join(DTYPES)}, got {dtype!r}.")
    kinds = {device.device_type for device in devices}
    if dtype == "float16" and "cpu" in kinds:
        raise ValueError(
            "`dtype` float16 needs GPUs, as MXNet has no float16 convolutions for CPUs: "
            "choose bfloat16 or float32, or give --gpus."
        )
    if dtype == "bfloat16" and "gpu" in kinds:
        raise ValueError(
            "`dtype` bfloat16 is for CPUs, as MXNet 1.9 has none for GPUs: choose float16."
        )


class LossScale:
    """The factor on the loss that keeps gradients of float16 above its smallest number.

    It is halved after a step whose gradients have an infinity, which is left out, and doubled
    after ``GOOD_STEPS`` others. Unlike MXNet AMP's it looks at the gradients of all devices.

    Parameters
    ----------
    value, good
        Factor, and steps since it changed; given when a run is resumed.
    """

    def __init__(self, value: float = 2.0**16, good: int = 0) -> None:
        self.value, self.good = value, good

    def step(
        self,
        trainer: gluon.Trainer,
        size: float,
        anywhere: Callable[[bool], bool] = lambda overflow: overflow,
    ) -> bool:
        """Update the parameters, unless the scaled gradients overflowed; return whether.

        Waits for the gradients.

        Parameters
        ----------
        trainer, size
            As in ``trainer.step(size)``.
        anywhere
            Tells of this process's overflow whether any process had one.
        """
        if anywhere(not _finite(trainer)):
            self.value, self.good = max(self.value / 2, 1.0), 0
            for parameter in trainer._params:
                if parameter.grad_req != "null":
                    for array in parameter.list_data():
                        array._fresh_grad = False
            return False
        trainer.step(size * self.value)
        self.good += 1
        if self.good == GOOD_STEPS:
            self.value, self.good = min(2 * self.value, LARGEST_SCALE), 0
        return True


def _finite(trainer: gluon.Trainer) -> bool:
    by_device = zip(*(p.list_grad() for p in trainer._params if p.grad_req != "null"))
    found = [mx.nd.multi_all_finite(*grads, num_arrays=len(grads)) for grads in by_device]
    return all(bool(flag.asscalar()) for flag in found)
