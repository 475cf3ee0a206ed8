"""How much memory of a device a computation takes."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path

import mxnet as mx


def peak_mb(compute, on_cpu: bool) -> float:
    """Return the megabytes that a function's computations add.

    On a GPU MXNet keeps what it has allocated, so the memory in use afterwards is the peak. On the
    CPU it is the peak of the process's resident memory.
    """
    mx.nd.waitall()
    if on_cpu:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # else what earlier tests have freed would be used again
        before = _process_mb("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM to the memory in use
        compute()
        mx.nd.waitall()
        return _process_mb("VmHWM") - before
    mx.gpu(0).empty_cache()
    free, _ = mx.context.gpu_memory_info(0)
    compute()
    mx.nd.waitall()
    return (free - mx.context.gpu_memory_info(0)[0]) / 2**20


def _process_mb(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024
