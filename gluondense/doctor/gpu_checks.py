# SPDX-License-Identifier: Apache-2.0
"""Checks of driver, CUDA libraries and GPUs against what MXNet needs and contains."""

from __future__ import annotations

from typing import Optional

from ..environment.cuda import CU112, FoundLibrary
from ..environment.gpu import unsupported, version, versions
from .check import NOTE, OK, WRONG, Check, Result
from .facts import Facts

CPU_BUILD = "not needed: this MXNet is built for CPUs"
CPU_INSTEAD = "to stay on the CPU: pip uninstall mxnet-cu112, pip install mxnet==1.9.1"
OLDEST_DRIVER = 11000  # whatever the minor version of CUDA 11
FUSION = "install a driver as new as CUDA, or set MXNET_USE_FUSION=0: NVRTC's code may be too new"


def driver(facts: Facts) -> Result:
    """Check the driver's library, which no package of PyPI contains."""
    if not facts.has_cuda:
        return Result(OK, CPU_BUILD)
    found = _library(facts, "libcuda.")
    if found is None or found.error:
        advice = "install NVIDIA's driver; a container needs Docker's option for GPUs (docs/gpu.md)"
        return Result(WRONG, "libcuda.so.1 not found", f"{advice}; {CPU_INSTEAD}")
    if found.version is None:
        return Result(WRONG, f"{found.path} does not answer", "install NVIDIA's driver again")
    value = f"for CUDA up to {cuda_version(found.version)} ({found.path})"
    if found.version < OLDEST_DRIVER:
        return Result(WRONG, value, "install driver 460.27 or later, for CUDA 11.2")
    runtime = _library(facts, "libcudart.")
    if runtime and runtime.version and found.version < runtime.version:
        return Result(NOTE, value, FUSION)
    return Result(OK, value)


def cuda_libraries(facts: Facts) -> Result:
    """Check that the loader finds the libraries that MXNet names, and tell their versions."""
    if not facts.has_cuda:
        return Result(OK, CPU_BUILD)
    libraries = [found for found in facts.libraries if found.row.package]
    missing = [found for found in libraries if found.error]
    if missing:
        names = ", ".join(f"{found.row.title} ({found.name})" for found in missing)
        wanted = '"gluondense[cuda11]"'  # all of them
        if len(missing) < 3:
            wanted = " ".join(str(found.row.package) for found in missing)
        return Result(WRONG, f"missing: {names}", f"pip install {wanted}; {CPU_INSTEAD}")
    return Result(OK, ", ".join(map(_titled, libraries)))


def gpus(facts: Facts) -> Result:
    """Compare the GPUs' compute capabilities with the code in MXNet, and try them."""
    code = facts.code if facts.has_cuda else CU112
    if not facts.gpus:
        return _no_gpu(facts)
    rows = [f"{gpu.name} ({_capability(gpu.capability)})" for gpu in facts.gpus]
    value = f"{', '.join(rows)}; MXNet's CUDA build has code for {versions(code)}"
    problems = [problem for gpu in facts.gpus if (problem := unsupported(gpu, code))]
    if len(problems) == len(facts.gpus):
        return Result(WRONG if facts.has_cuda else NOTE, value, problems[0])
    if not facts.has_cuda:
        advice = "to use it: pip uninstall mxnet, then pip install mxnet-cu112==1.9.1 (docs/gpu.md)"
        return Result(NOTE, value, advice)
    errors = [error for error in facts.probe.get("gpus", []) if error]
    if facts.problem is not None:
        return Result(NOTE, value, "see the line MXNet")
    if not facts.probe["gpus"]:
        advice = "MXNet finds none: check CUDA_VISIBLE_DEVICES, see the line NVIDIA driver"
        return Result(WRONG, value, advice)
    if errors:
        status = WRONG if len(errors) == len(facts.probe["gpus"]) else NOTE
        return Result(status, value, "; ".join(errors))
    return Result(OK, value)


def _no_gpu(facts: Facts) -> Result:
    if not facts.has_cuda:
        return Result(OK, "none found, none needed")
    value = f"none found; MXNet has code for compute capabilities {versions(facts.code)}"
    return Result(WRONG, value, f"check the driver and CUDA_VISIBLE_DEVICES; {CPU_INSTEAD}")


def _library(facts: Facts, prefix: str) -> Optional[FoundLibrary]:
    return next((found for found in facts.libraries if found.name.startswith(prefix)), None)


def _titled(found: FoundLibrary) -> str:
    if found.version is None:
        return f"{found.row.title} ({found.name})"
    render = VERSIONS.get(found.row.title, str)
    return f"{found.row.title} {render(found.version)}"


def _capability(capability: Optional[tuple[int, int]]) -> str:
    return "compute capability " + (version(capability) if capability else "unknown")


def cuda_version(number: int) -> str:
    """Return a version as CUDA encodes it.

    Examples
    --------
    >>> cuda_version(11020), cudnn_version(8906), nccl_version(22105), nccl_version(2708)
    ('11.2', '8.9.6', '2.21.5', '2.7.8')
    """
    return f"{number // 1000}.{number % 1000 // 10}"


def cudnn_version(number: int) -> str:
    """Return a version as cuDNN up to 8 encodes it."""
    return f"{number // 1000}.{number % 1000 // 100}.{number % 100}"


def nccl_version(number: int) -> str:
    """Return a version as NCCL encodes it; 2.9 widened the minor number."""
    major = 10000 if number >= 10000 else 1000
    return f"{number // major}.{number % major // 100}.{number % 100}"


VERSIONS = {"CUDA": cuda_version, "cuDNN": cudnn_version, "NCCL": nccl_version}

GPU_CHECKS = (
    Check("NVIDIA driver", driver),
    Check("CUDA libraries", cuda_libraries),
    Check("GPUs", gpus),
)
