# SPDX-License-Identifier: Apache-2.0
"""Whether MXNet can compute on a GPU of this machine, and why not."""

from __future__ import annotations

import os
import sys
from typing import Optional

from . import cuda
from .elf import GPUCode

__all__ = ["gpu_problem", "prepare_gpu", "unsupported"]


def gpu_problem(number: int = 0) -> Optional[str]:
    """Return why MXNet cannot compute on a GPU, in one line, or None if it can.

    Nothing runs on the GPU, so that data loaders can still fork their processes.

    Examples
    --------
    >>> from gluondense.environment.gpu import gpu_problem
    >>> gpu_problem(1000) is None
    False
    """
    try:
        import mxnet as mx

        if not mx.runtime.Features().is_enabled("CUDA"):
            return (
                "this MXNet is built for CPUs only (for an NVIDIA GPU: pip uninstall mxnet, then "
                "pip install mxnet-cu112==1.9.1)"
            )
        count = mx.context.num_gpus()
        if number >= count:
            return f"MXNet finds {count or 'no'} GPU{'s' * (count != 1)} (see gluondense doctor)"
        gpus, library = cuda.find_gpus(), cuda.mxnet_library()
        if library is not None and number < len(gpus):
            return unsupported(gpus[number], cuda.mxnet_gpu_code(library))
    except (ImportError, RuntimeError) as error:  # an MXNetError is a RuntimeError
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # MXNet's ends as "CUDA: Check failed: e == cudaSuccess (803 vs. 0) : driver mismatch".
        return lines[-1].rpartition(" : ")[2] if lines else type(error).__name__
    return None


def prepare_gpu(number: int) -> None:
    """Turn MXNet's fusion of pointwise operators off if NVRTC does not know a GPU; say so.

    MXNet compiles fused operators for the compute capability of the GPU. NVRTC of CUDA 11.2 knows
    those up to 8.6, so the first graph would fail on GPUs of 8.9 (Ada), for which MXNet's other
    code works. A value of ``MXNET_USE_FUSION`` that is set already stays.
    """
    gpus, library = cuda.find_gpus(), cuda.mxnet_library()
    if "MXNET_USE_FUSION" in os.environ or library is None or number >= len(gpus):
        return
    gpu, known = gpus[number], cuda.nvrtc_capabilities(library)
    if gpu.capability is not None and known and gpu.capability not in known:
        os.environ["MXNET_USE_FUSION"] = "0"
        newer = cuda.LIBRARIES["libnvrtc"].package
        print(
            f"{gpu.name}: operators are not fused, as NVRTC compiles for compute capabilities up "
            f"to {version(max(known))} only; to fuse them: pip install {newer}",
            file=sys.stderr,
        )


def unsupported(gpu: cuda.GPU, code: GPUCode) -> Optional[str]:
    """Return that MXNet lacks machine code for a GPU, None if it has some.

    Examples
    --------
    >>> from gluondense.environment.cuda import GPU, GPUCode
    >>> print(unsupported(GPU("NVIDIA H200", (9, 0)), GPUCode(machine=((7, 0), (8, 6)), ptx=())))
    NVIDIA H200 has compute capability 9.0, this MXNet has code for 7.0, 8.6 only: export to ...
    """
    if gpu.capability is None or code.runs_on(gpu.capability):
        return None
    return (
        f"{gpu.name} has compute capability {version(gpu.capability)}, this MXNet has code for "
        f"{versions(code)} only: export to ONNX and use TensorRT or ONNX Runtime (docs/gpu.md)"
    )


def versions(code: GPUCode) -> str:
    """Return compute capabilities as NVIDIA writes them, ``5.0, 8.6 and PTX of 8.6``."""
    machine = ", ".join(map(version, code.machine)) or "none"
    return machine + (f" and PTX of {', '.join(map(version, code.ptx))}" if code.ptx else "")


def version(capability: tuple[int, int]) -> str:
    """Return a compute capability as NVIDIA writes it, such as ``8.6``."""
    return "{}.{}".format(*capability)
