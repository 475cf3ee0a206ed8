# SPDX-License-Identifier: Apache-2.0
"""Mixed precision: devices that support it, and the loss scale that keeps gradients in range.

Parameters, gradients, momenta and running statistics stay in float32; the graph casts the inputs of
convolutions and fully-connected layers, see :mod:`gluondense.graph.mixed_precision`. Nothing is
changed process-wide, unlike by MXNet's ``amp.init()``.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Callable

import mxnet as mx
from mxnet import gluon

from ..errors import check_choice
from ..graph.channels_last import use_channels_last
from ..graph.ir import Graph
from ..graph.mixed_precision import use_mixed_precision
from ..graph.trace import INPUT, trace
from .configuration.runtime import DTYPES
from .optimizer import update

LARGEST_SCALE = 2.0**24
GROWTH_INTERVAL = 2000  # steps without overflow before the scale doubles, as in MXNet AMP
# multi_all_finite writes beyond its memory for more arrays, without a check.
_ARRAYS_PER_OPERATOR = 200


def check_dtype(dtype: str, devices: Sequence[mx.Context]) -> None:
    """Raise a ValueError unless the devices can train in a dtype."""
    check_choice("dtype", dtype, DTYPES)
    kinds = {device.device_type for device in devices}
    if dtype == "float16" and "cpu" in kinds:
        raise ValueError(
            "`dtype` float16 needs GPUs, as MXNet has no float16 convolutions for CPUs: "
            "choose bfloat16 or float32, or give `gpus`."
        )
    if dtype == "bfloat16" and "gpu" in kinds:
        raise ValueError(
            "`dtype` bfloat16 is for CPUs, as MXNet 1.9 has none for GPUs: choose float16."
        )


def use_precision(graph: Graph, net: gluon.HybridBlock, dtype: str) -> None:
    """Let the graph of a network compute in a dtype; in float16 with its spec's memory layout."""
    if dtype == "float32":
        return
    if dtype == "float16" and getattr(getattr(net, "spec", None), "layout", "NCHW") == "NHWC":
        use_channels_last(graph)
    use_mixed_precision(graph, dtype)


def in_precision(net: gluon.HybridBlock, dtype: str) -> gluon.HybridBlock:
    """Return a block for inference that computes in a dtype, with the parameters of ``net``.

    It is ``net`` for float32, else its graph with the casts of training.
    """
    if dtype == "float32":
        return net
    graph = Graph(trace(net), {})
    use_precision(graph, net, dtype)
    with warnings.catch_warnings():
        # MXNet infers the types of the parameters, which are known, before it knows the input's.
        warnings.filterwarnings("ignore", "Cannot decide type for the following arguments")
        block = gluon.SymbolBlock(graph.to_symbol()[0], mx.sym.var(INPUT), net.collect_params())
    block.hybridize(static_alloc=True, static_shape=True)
    return block


def make_loss_scale(dtype: str) -> LossScale:
    """Return a dynamic loss scale for float16, and a constant 1 for other dtypes."""
    return DynamicLossScale() if dtype == "float16" else LossScale()


class LossScale:
    """The constant factor 1 on the loss."""

    value = 1.0

    def step(
        self,
        trainer: gluon.Trainer,
        batch_size: float,
        any_rank: Callable[[bool], bool] = bool,
        clip: float = 0.0,
    ) -> bool:
        """Update as ``trainer.step(batch_size)`` does, unless gradients overflow; return whether.

        ``any_rank`` returns whether a condition holds on any worker; ``clip`` is the largest norm
        of the gradients, see :func:`.optimizer.update`, without the scale.
        """
        overflow = self._overflows(trainer, any_rank)
        if not overflow:
            update(trainer, batch_size * self.value, clip)
        self._adjust(overflow)
        return not overflow

    def _overflows(self, trainer: gluon.Trainer, any_rank: Callable[[bool], bool]) -> bool:
        return False

    def _adjust(self, overflow: bool) -> None:
        """Change the factor after a step."""

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint saves."""
        return {"loss_scale": 0.0, "good_steps": 0}

    def restore(self, progress: Mapping[str, Any]) -> None:
        """Continue at a saved state."""


class DynamicLossScale(LossScale):
    """A factor on the loss that keeps float16 gradients above the smallest float16 number.

    A step whose gradients overflow on any worker is skipped and halves the factor;
    ``GROWTH_INTERVAL`` steps without overflow double it. Unlike MXNet AMP it checks the gradients
    of all devices. A step waits for the gradients. ``good_steps`` counts the steps since the last
    change.
    """

    def __init__(self, value: float = 2.0**16, good_steps: int = 0) -> None:
        self.value, self.good_steps = value, good_steps

    def _overflows(self, trainer: gluon.Trainer, any_rank: Callable[[bool], bool]) -> bool:
        overflow = any_rank(not _finite(trainer))
        if overflow:
            for parameter in trainer._params:
                if parameter.grad_req != "null":
                    for array in parameter.list_data():
                        array._fresh_grad = False
        return overflow

    def _adjust(self, overflow: bool) -> None:
        self.good_steps += 1
        if overflow:
            self.value, self.good_steps = max(self.value / 2, 1.0), 0
        elif self.good_steps == GROWTH_INTERVAL:
            self.value, self.good_steps = min(2 * self.value, LARGEST_SCALE), 0

    def state(self) -> dict[str, Any]:
        """Return factor and step count."""
        return {"loss_scale": self.value, "good_steps": self.good_steps}

    def restore(self, progress: Mapping[str, Any]) -> None:
        """Continue at a saved factor, unless the checkpoint was trained without one."""
        if progress["loss_scale"]:
            self.value, self.good_steps = progress["loss_scale"], progress["good_steps"]


def _finite(trainer: gluon.Trainer) -> bool:
    """Return whether all gradients are finite; wait for them, once for each device."""
    by_device = zip(*(p.list_grad() for p in trainer._params if p.grad_req != "null"))
    flags = list(map(_all_finite, by_device))
    return all(bool(flag.asscalar()) for flag in flags)


def _all_finite(arrays: Sequence[mx.nd.NDArray]) -> mx.nd.NDArray:
    """Return 1 on the arrays' device if they are all finite, else 0, without waiting."""
    flag = mx.nd.ones(1, arrays[0].context)
    for start in range(0, len(arrays), _ARRAYS_PER_OPERATOR):
        some = arrays[start : start + _ARRAYS_PER_OPERATOR]
        mx.nd.multi_all_finite(*some, num_arrays=len(some), init_output=False, out=flag)
    return flag
