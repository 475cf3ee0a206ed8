# SPDX-License-Identifier: Apache-2.0
"""The device of an export: a GPU if its target and this MXNet can use one."""

from __future__ import annotations

import logging

import mxnet as mx

from ..environment.gpu import gpu_problem, prepare_gpu

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
    if target in GPU_TARGETS:
        problem = gpu_problem(wanted.device_id)
    else:
        problem = f"target {target} is for CPUs"
    if problem is None:
        prepare_gpu(wanted.device_id)
        return wanted
    logger.warning("runs on the CPU, not on %s: %s", wanted, problem)
    return mx.cpu()
