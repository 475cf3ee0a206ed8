# SPDX-License-Identifier: Apache-2.0
"""Description of the machine and the software that results were measured with."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from gluondense.environment.process import usable_cores
from gluondense.version import __version__

PACKAGES = ("mxnet", "gluoncv", "numpy", "torch", "onnx", "onnxruntime", "openvino", "nncf")
# Instruction sets that select kernels.
FLAGS = re.compile(
    r"fma|avx2|avx512f|avx_?vnni.*|avx512_(vnni|bf16|fp16)|amx_.*|asimd.*|i8mm|sve2?"
)


def header(threads: int) -> dict[str, Any]:
    """Return the first entries of a benchmark's JSON file, with no rows yet."""
    date = datetime.date.today().isoformat()
    about = {"date": date, "versions": versions(), "machine": machine(), "threads": threads}
    return {**about, "rows": [], "missing": []}


def versions() -> dict[str, str]:
    """Return the versions of gluondense, Python and the installed packages."""
    found = {"gluondense": __version__, "Python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def machine(root: Path = Path("/")) -> dict[str, Any]:
    """Return the CPU's name, cores, caches, instruction sets, memory and system, as in ``root``."""
    cpu = _read(root / "proc/cpuinfo")
    memory = re.search(r"MemTotal:\s+(\d+) kB", _read(root / "proc/meminfo"))
    words = (_field(cpu, "flags") or _field(cpu, "Features")).split()
    return {
        "cpu": _field(cpu, "model name") or platform.processor() or platform.machine(),
        "family": ".".join(filter(None, (_field(cpu, "cpu family"), _field(cpu, "model")))),
        "cores": usable_cores(),
        "logical_cpus": os.cpu_count(),
        "caches": _caches(root),
        "flags": [word for word in words if FLAGS.fullmatch(word)],
        "memory_gb": round(int(memory[1]) / 2**20, 1) if memory else None,
        "system": f"{platform.system()} {platform.release()}",
    }


def _caches(root: Path) -> dict[str, str]:
    """Return the sizes of the first CPU's caches."""
    caches = {}
    for folder in sorted((root / "sys/devices/system/cpu/cpu0/cache").glob("index*")):
        kind = _read(folder / "type").strip()
        level = "L" + _read(folder / "level").strip()
        name = level + {"Data": "d", "Instruction": "i"}.get(kind, "")
        caches[name] = _read(folder / "size").strip()
    return caches


def _field(text: str, name: str) -> str:
    found = re.search(rf"^{name}\s*: (.*)$", text, re.MULTILINE)
    return found[1].strip() if found else ""


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
