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

from ..ir import Graph, Node
from ..models.recompute import MARK
from .config import DTYPES

LOW = frozenset({"Convolution", "FullyConnected"})
# What stays in float32 between two of them. On the CPU MXNet's gradients of bfloat16 maps are wrong
# in poolings, normalizations or concatenations, so there nothing else is lowered.
FULL = frozenset({"softmax"})
# Parameters and statistics are in float32 whatever the maps are in.
NORMS = frozenset({"BatchNorm", "_contrib_BatchNormWithReLU", "_contrib_SyncBatchNorm"})

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


def lower(graph: Graph, dtype: str) -> None:
    """Let convolutions and fully-connected layers compute in ``dtype``; outputs are float32.

    Parameters
    ----------
    graph
        Is changed. Casts of what backward recomputes are recomputed too.
    dtype
        ``"float16"`` or ``"bfloat16"``.
    """
    kinds: dict[int, str] = {}
    casts: dict[tuple[int, int, str], Node] = {}

    def cast(entry: tuple[Node, int], kind: str) -> tuple[Node, int]:
        node, output = entry
        if kinds.get(id(node), "float32") == kind:
            return entry
        key = id(node), output, kind
        if key not in casts:
            casts[key] = Node("amp_cast", f"{node.name}_{output}_{kind}", {"dtype": kind}, [entry])
            if MARK in node.attrs:
                casts[key].attrs[MARK] = "True"
        return casts[key], 0

    for node in graph.operators():
        data = node.inputs[:1] if node.op in NORMS else node.inputs
        follows = dtype == "float16" and node.op not in FULL
        low = follows and any(kinds.get(id(source)) == dtype for source, _ in data)
        kind = dtype if node.op in LOW or low else "float32"
        node.inputs = [cast(entry, kind) for entry in data] + node.inputs[len(data) :]
        kinds[id(node)] = kind
    graph.heads = [cast(entry, "float32") for entry in graph.heads]


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
