# SPDX-License-Identifier: Apache-2.0
"""Checks of Python, NumPy and MXNet."""

from __future__ import annotations

import platform
from importlib import metadata

from .check import NOTE, OK, WRONG, Check, Result
from .facts import Facts

# Features of MXNet that change what gluondense can do; the others are CPU baselines.
FEATURES = ("CUDA", "CUDNN", "NCCL", "MKLDNN", "OPENMP", "OPENCV", "DIST_KVSTORE")


def python(facts: Facts) -> Result:
    """Check Python; gluondense cannot be imported on others than 3.9 to 3.13."""
    return Result(OK, f"{platform.python_version()} on {platform.machine()}")


def numpy(facts: Facts) -> Result:
    """Check NumPy; 1.24 removed names that MXNet reads."""
    try:
        version = metadata.version("numpy")
    except metadata.PackageNotFoundError:
        return Result(WRONG, "not installed", "pip install 'numpy<1.24'")
    release = tuple(int(part) for part in version.split(".")[:2])
    if release < (1, 21):
        return Result(WRONG, version, "pip install 'numpy>=1.21,<1.24'")
    if release < (1, 24):
        return Result(OK, version)
    return Result(
        NOTE,
        f"{version}: lacks names that MXNet 1.9.1 reads, gluondense adds them",
        "import gluondense before mxnet; for programs without gluondense, pip install "
        "'numpy<1.24' on Python 3.9 to 3.11",
    )


def mxnet(facts: Facts) -> Result:
    """Check that one MXNet 1.9.1 is installed and can be imported."""
    names = ", ".join(f"{name} {version}" for name, version in facts.mxnet.items())
    if len(facts.mxnet) > 1:
        advice = "they contain the same module: pip uninstall all of them, then install one"
        return Result(WRONG, names, advice)
    if facts.problem is None:
        return Result(OK, names or facts.probe["version"])
    missing = [library.name for library in facts.libraries if library.error]
    if missing:
        return Result(
            WRONG, f"{names} cannot be imported", "see the lines NVIDIA driver and CUDA libraries"
        )
    return Result(WRONG, names or "not installed", facts.problem)


def features(facts: Facts) -> Result:
    """Check the features that MXNet is built with."""
    if facts.problem is not None:
        return Result(NOTE, "unknown", "see the line MXNet")
    built = [name for name in FEATURES if name in facts.probe["features"]]
    if "MKLDNN" in built:
        return Result(OK, ", ".join(built))
    advice = "inference and training on the CPU are slow without oneDNN: use the wheel of PyPI"
    return Result(NOTE, ", ".join(built), advice)


MXNET_CHECKS = (
    Check("Python", python),
    Check("NumPy", numpy),
    Check("MXNet", mxnet),
    Check("MXNet features", features),
)
