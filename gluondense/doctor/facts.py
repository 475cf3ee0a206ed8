# SPDX-License-Identifier: Apache-2.0
"""What the checks are about: the facts of this machine, collected once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Optional

from ..environment import cuda
from ..environment.cuda import GPU, FoundLibrary
from ..environment.elf import GPUCode

PROBE_SECONDS = 180  # the first use of a GPU may load code for a minute

NO_CODE = GPUCode((), ())


@dataclass(frozen=True)
class Facts:
    """The facts of a machine.

    Attributes
    ----------
    mxnet
        Name and version of the installed distributions of MXNet, such as
        ``{"mxnet-cu112": "1.9.1"}``; there should be one.
    probe
        What :mod:`gluondense.doctor.probe` found by importing MXNet in another process.
    problem
        Why that process failed, None if it did not.
    libraries
        NVIDIA's libraries that MXNet needs; none for a CPU build.
    code
        The GPU code in MXNet's library; empty for a CPU build.
    gpus
        The GPUs of this machine.
    """

    mxnet: dict[str, str] = field(default_factory=dict)
    probe: dict[str, Any] = field(default_factory=dict)
    problem: Optional[str] = None
    libraries: tuple[FoundLibrary, ...] = ()
    code: GPUCode = NO_CODE
    gpus: tuple[GPU, ...] = ()

    @property
    def has_cuda(self) -> bool:
        """Whether MXNet is a CUDA build, whether or not it can be imported."""
        return bool(self.libraries)


def collect() -> Facts:
    """Return the facts of this machine. MXNet is imported in another process only."""
    probe, problem = run_probe([sys.executable, "-m", "gluondense.doctor.probe"])
    library = cuda.mxnet_library()
    cuda.preload()
    names = cuda.cuda_libraries(library) if library else ()
    return Facts(
        mxnet=distributions(library),
        probe=probe,
        problem=problem,
        libraries=tuple(map(cuda.find_library, names)),
        code=cuda.mxnet_gpu_code(library) if library else NO_CODE,
        gpus=tuple(cuda.find_gpus()),
    )


def distributions(library: Optional[Path]) -> dict[str, str]:
    """Return the distributions that installed MXNet's library, with their versions."""
    if library is None:
        return {}
    return {
        found.metadata["Name"]: found.version
        for found in metadata.distributions(path=[str(library.parents[1])])
        if (found.metadata["Name"] or "").startswith("mxnet")
        and any(file.name == library.name for file in found.files or ())  # no mxnet-model-server
    }


def run_probe(command: list[str]) -> tuple[dict[str, Any], Optional[str]]:
    """Run the probe; return its findings, and why it failed or None."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        return {}, f"importing MXNet took more than {PROBE_SECONDS} seconds"
    lines = done.stdout.strip().splitlines()
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        return {}, f"importing MXNet ended the process with {name}"
    try:
        return json.loads(lines[-1]), None
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {}, last.partition("Error: ")[2] or last
