# SPDX-License-Identifier: Apache-2.0
"""Checks of cores, threads, instruction sets and the compiler."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ..environment.process import usable_cores
from .check import NOTE, OK, Check, Result
from .facts import Facts

COMPILER = "native exports and memory-efficient training on the CPU need it: apt install g++"


def threads(facts: Facts) -> Result:
    """Compare OpenMP's threads with the cores; gluondense sets them unless the user has."""
    cores, variable = usable_cores(), os.environ.get("OMP_NUM_THREADS", "")
    names = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_PROC_BIND")
    settings = " ".join(f"{name}={os.environ[name]}" for name in names if name in os.environ)
    value = f"{cores} cores, {settings}"
    first = variable.split(",")[0]
    if not first.isdigit() or int(first) == cores:
        return Result(OK, value)
    if int(first) < cores:
        return Result(NOTE, value, "unset OMP_NUM_THREADS to use all cores")
    return Result(NOTE, value, f"more threads than cores are slow: OMP_NUM_THREADS={cores}")


def processor(facts: Facts) -> Result:
    """Name the processor."""
    return Result(OK, _cpuinfo("model name") or "unknown")


def native(facts: Facts) -> Result:
    """Check the compiler, and which instruction set the native operator uses."""
    if facts.problem is not None:
        return Result(NOTE, "unknown", "see the line MXNet")
    found = facts.probe["native"]
    if "error" in found:
        return Result(NOTE, "no compiler", f"optional; {COMPILER}")
    flags = _cpuinfo("flags").split()
    usable = [name for name, options in found["sets"].items() if is_supported(options, flags)]
    wanted = os.environ.get("GLUONDENSE_ISA")
    if wanted and wanted not in usable:
        advice = f"unset GLUONDENSE_ISA, or use one of {', '.join(usable)}"
        return Result(NOTE, f"GLUONDENSE_ISA={wanted} is not supported here", advice)
    best = wanted or usable[-1]
    lacking = [name for name in found["sets"] if name not in usable]
    value = f"{best} by {found['compiler']}"
    if lacking:
        value += f"; not on this processor: {', '.join(lacking)}"
    if found["built"]:
        return Result(OK, value)
    advice = "compiled on first use, a minute; python -m gluondense.native does it now"
    return Result(NOTE, f"{value}; not compiled yet", advice)


def is_supported(options: Iterable[str], flags: Iterable[str]) -> bool:
    """Return whether a processor with the flags of /proc/cpuinfo has what compiler options use.

    Examples
    --------
    >>> is_supported(["-mavx2", "-mfma", "-mprefer-vector-width=512"], ["fma", "avx2"])
    True
    >>> is_supported(["-mavx512vnni"], ["avx512f"]), is_supported(["-mavx512vnni"], ["avx512_vnni"])
    (False, True)
    >>> is_supported(["-mamx-tile"], ["amx_tile"])
    True
    """
    present = {flag.replace("_", "") for flag in flags}
    wanted = {option[2:].replace("-", "") for option in options if "=" not in option}
    return wanted <= present


def _cpuinfo(name: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    values = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in values if key.strip() == name), "")


PROCESSOR_CHECKS = (
    Check("processor", processor),
    Check("threads", threads),
    Check("native operator", native),
)
