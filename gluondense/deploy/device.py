# SPDX-License-Identifier: Apache-2.0
"""The device of an export: a GPU if its target and this MXNet can use one.

Model archives contain a copy of this module, so it imports nothing of gluondense.
"""

from __future__ import annotations

import logging

import mxnet as mx

logger = logging.getLogger(__name__)

GPU_TARGETS = frozenset({"portable"})  # the others have operators for CPUs only


def choose_device(target: str, wanted: mx.Context) -> mx.Context:
    """Return the device on which an export to a target runs.

    It is the wanted one, unless that is a GPU that the target's operators or this MXNet can't use:
    then a warning in the log says why the export runs on the CPU.

    Examples
    --------
    >>> choose_device("native", mx.cpu(1))
    cpu(1)
    """
    if wanted.device_type != "gpu":
        return wanted
    problem = _gpu_problem(target, wanted.device_id)
    if problem is None:
        return wanted
    logger.warning("runs on the CPU, not on %s: %s", wanted, problem)
    return mx.cpu()


def _gpu_problem(target: str, number: int) -> str | None:
    """Return why an export can't use a GPU, None if it can."""
    if target not in GPU_TARGETS:
        return f"target {target} is for CPUs"
    if not mx.runtime.Features().is_enabled("CUDA"):
        return "this MXNet is built for CPUs only"
    try:
        count = mx.context.num_gpus()
    except mx.MXNetError as error:  # such as a driver that is too old
        return str(error).strip().splitlines()[-1].strip()
    return None if number < count else f"MXNet finds {count} GPUs"
