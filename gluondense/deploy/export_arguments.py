# SPDX-License-Identifier: Apache-2.0
"""Checks and defaults of the arguments of :func:`gluondense.export`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Optional

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..analysis.label_metrics import DEFAULT_THRESHOLD
from ..analysis.tasks import task_of
from ..data.overrides import adjust
from ..data.preprocessing import Preprocessing
from ..errors import check

Numbers = Optional[Sequence[float]]


def check_calibration(target: str, needs_calibration: bool, calibration: Any) -> None:
    """Raise a ValueError if a calibration is missing or not needed."""
    if needs_calibration and calibration is None:
        raise ValueError(
            f"target={target!r} needs calibration=: some hundred images as the network will see, "
            "normalized in an array (N, C, H, W), or a folder of images, or a RecordIO file."
        )
    if calibration is not None and not needs_calibration:
        raise ValueError(f"target={target!r} needs no calibration: leave it out.")


def example_input(net: gluon.HybridBlock, shape: Sequence[int]) -> mx.nd.NDArray:
    """Return a random input of the network's device and dtype, after a check of both arguments."""
    for name, parameter in net.collect_params().items():
        if parameter._data is None and not parameter._deferred_init:
            raise ValueError(
                f"the network is not initialized ({name} has no values): call net.initialize() or "
                "net.load_parameters(file) first."
            )
    shape = tuple(shape)
    holds = len(shape) > 1 and all(isinstance(n, (int, np.integer)) and n > 0 for n in shape)
    check("input_shape", shape, "positive integers (N, C, H, W)", holds)
    first = next(iter(net.collect_params().values()))
    # A local generator leaves the user's random state unchanged.
    values = np.random.default_rng(0).standard_normal(shape)
    return mx.nd.array(values, ctx=first.list_ctx()[0], dtype=first.dtype)


def select_class_names(
    net: gluon.HybridBlock,
    names: Sequence[str] | None,
    shape: tuple[int, ...],
    is_detector: bool = False,
) -> tuple[str, ...] | None:
    """Return the given class names, or those of the published weights if they fit the output.

    The shape of a detector's output does not tell the number of classes; its ``classes`` do.
    """
    if is_detector:
        known = getattr(net, "classes", None) or names or ()
        found = tuple(map(str, known if names is None else names))
        rule = f"one for each of the network's {len(known)} classes"
        check("class_names", found[:3], rule, len(found) == len(known))
        return found or None
    if names is None:
        names = getattr(net, "classes", None) or ()
        # The user may have replaced the output layer, so that the published labels do not fit.
        return tuple(map(str, names)) if shape[1:] == (len(names),) else None
    if len(shape) != 2 or shape[1] != len(names):
        raise ValueError(
            f"class_names ({len(names)} of them) must be one for each class, but the network's "
            f"output has shape {shape}."
        )
    return tuple(map(str, names))


def select_preprocessing(
    net: gluon.HybridBlock,
    given: Preprocessing | None,
    mean: Numbers,
    std: Numbers,
    shape: tuple[int, ...],
) -> Preprocessing | None:
    """Return the given preprocessing, or the network's, for images of the input's shape."""
    known = given or getattr(net, "preprocessing", None)
    if len(shape) != 4:
        return None
    channels = shape[1]
    mean, std = _per_channel("mean", mean, channels), _per_channel("std", std, channels)
    found = adjust(known, mean=mean, std=std, input_size=shape[2:])
    if found is not None:
        rule = f"of {channels} channels, as input_shape (={shape})"
        check("preprocessing", found, rule, found.channels == channels)
    return found


def select_task(
    net: gluon.HybridBlock,
    task: str | None,
    thresholds: Numbers,
    shape: tuple[int, ...],
    is_detector: bool = False,
) -> tuple[str, tuple[float, ...] | None]:
    """Return the given task and thresholds, or those of a run's network.

    Several labels have thresholds, 0.5 if none are known.
    """
    task = task or ("detection" if is_detector else task_of(net))
    rule = "'detection' for a network with non-maximum suppression (box_nms), and only for one"
    check("task", task, rule, is_detector == (task == "detection"))
    if task != "multi_label":
        rule = "None unless an image has several labels"
        check("thresholds", thresholds, rule, thresholds is None)
        return task, None
    if thresholds is None:
        thresholds = getattr(net, "thresholds", None)
    if thresholds is None:
        thresholds = (DEFAULT_THRESHOLD,) * shape[-1]
    numbers = tuple(map(float, thresholds))
    check("thresholds", numbers, "in (0, 1)", all(0 < number < 1 for number in numbers))
    rule = f"one for each of the {shape[-1]} labels"
    check("thresholds", numbers, rule, len(numbers) == shape[-1])
    return task, numbers


def to_logits(probabilities: Sequence[float]) -> tuple[float, ...]:
    """Return the logits whose sigmoids are these probabilities.

    Examples
    --------
    >>> to_logits((0.5,))
    (0.0,)
    """
    return tuple(math.log(value / (1 - value)) for value in probabilities)


def _per_channel(name: str, values: Numbers, channels: int) -> tuple[float, ...] | None:
    if values is None:
        return None
    if len(values) != channels:
        raise ValueError(f"{name} (={tuple(values)}) must have {channels} numbers, one a channel.")
    return tuple(map(float, values))
