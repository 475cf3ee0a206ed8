# SPDX-License-Identifier: Apache-2.0
"""Prepare a process for MXNet 1.9.1.

``import gluondense`` calls :func:`prepare`. It does two things and imports neither MXNet nor NumPy:

- sets ``OMP_NUM_THREADS`` to the physical cores available to this process (MXNet alone uses half
  of the logical cores; ``GLUONDENSE_SHARE=N`` divides them among N processes) and
  ``GOMP_SPINCOUNT`` to a short spin, unless the user has set them;
- installs the import hook of :mod:`gluondense.environment.mxnet_import`, which makes ``import
  mxnet`` work with today's NumPy and Python, however it is imported later.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
import types
import warnings
from math import inf
from pathlib import Path
from typing import Union

from .mxnet_import import install, quiet_imports

OLDEST_PYTHON, NEWEST_PYTHON = (3, 9), (3, 13)


class MXNetImportedFirstWarning(UserWarning):
    """MXNet was imported before gluondense: the thread settings have no effect."""


def prepare() -> None:
    """Set the threads and install the import hook for MXNet.

    Raises an ImportError if MXNet 1.9.1 does not run on this Python, or another MXNet has been
    imported before.
    """
    if not OLDEST_PYTHON <= sys.version_info[:2] <= NEWEST_PYTHON:
        raise ImportError(
            f"MXNet 1.9.1 runs on Python 3.9 to 3.13, this is {platform.python_version()}: "
            "install Python 3.11 and make a virtual environment with it"
        )
    _set_threads()
    install()


def drop_server_threads() -> None:
    """Unset ``OMP_NUM_THREADS`` unless the process was started with it.

    The workers of multi-model-server set it to 1 when the user has not set it.
    """
    try:
        started_with = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return  # not Linux: the initial environment is unknown
    if not any(entry.startswith(b"OMP_NUM_THREADS=") for entry in started_with):
        os.environ.pop("OMP_NUM_THREADS", None)


def patches() -> tuple[str, ...]:
    """Return the names added to or replaced in other packages so far, in chronological order.

    Examples
    --------
    >>> import mxnet
    >>> from gluondense import environment
    >>> "mxnet.recordio.pack" in environment.patches()
    True
    """
    from . import compat

    return tuple(compat.applied)


def import_gluoncv() -> types.ModuleType:
    """Import GluonCV, also beside PyTorch 2.

    GluonCV 0.10.5 raises an error if PyTorch 2 is installed, although it does not need it. PyTorch
    is hidden during its first import.

    Examples
    --------
    >>> from gluondense import environment
    >>> environment.import_gluoncv().__name__
    'gluoncv'
    """
    torch = sys.modules.get("torch")
    sys.modules["torch"] = None  # type: ignore[assignment]  # documented to block an import
    try:
        with quiet_imports():
            return importlib.import_module("gluoncv")
    finally:
        del sys.modules["torch"]
        if torch is not None:
            sys.modules["torch"] = torch


def usable_cores(root: Union[str, Path] = "/") -> int:
    """Return the number of physical cores available to this process.

    Respects the CPU affinity and the quotas of cgroups v1 and v2.

    Parameters
    ----------
    root
        The folder with ``sys`` and ``proc``; tests pass their own.

    Examples
    --------
    >>> from gluondense import environment
    >>> environment.usable_cores() >= 1
    True
    """
    root = Path(root)
    if hasattr(os, "sched_getaffinity"):
        cpus = os.sched_getaffinity(0)
    else:
        cpus = set(range(os.cpu_count() or 1))
    siblings = {
        _read(root / f"sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list") or str(n)
        for n in cpus
    }
    # Rounded down: the scheduler throttles more threads than the quota in every period.
    return max(1, int(min(len(siblings), _cgroup_quota(root))))


def _set_threads() -> None:
    share = os.environ.get("GLUONDENSE_SHARE", "1")  # set by `gluondense launch`
    threads = max(1, usable_cores() // int(share)) if share.isdigit() and int(share) else 1
    defaults = {"OMP_NUM_THREADS": str(threads)}
    if "OMP_WAIT_POLICY" not in os.environ:  # sets the spinning too
        defaults["GOMP_SPINCOUNT"] = "10000"
    unset = {name: value for name, value in defaults.items() if name not in os.environ}
    os.environ.update(unset)
    if unset and "mxnet" in sys.modules:
        settings = " ".join(f"{name}={value}" for name, value in unset.items())
        warnings.warn(
            f"mxnet was imported before gluondense, so {settings} came too late: "
            "import gluondense first for full speed, or set them in the environment",
            MXNetImportedFirstWarning,
            stacklevel=4,
        )


def _cgroup_quota(root: Path) -> float:
    """Return the CPU quota of this process's cgroups, ``inf`` without one."""
    quotas = [inf]
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # cgroup v2 names no controller; its mount point is the folder itself.
        mount = root / "sys/fs/cgroup" / controllers
        folder = mount / group.lstrip("/")
        # A container often sees only its own group, mounted as the root: try each parent.
        for level in [folder, *folder.parents]:
            if mount in (level, *level.parents):
                quotas.append(_quota_of(level, v2=not controllers))
    return min(quotas)


def _quota_of(group: Path, v2: bool) -> float:
    if v2:
        fields = (_read(group / "cpu.max") or "max").split()
    else:
        fields = [_read(group / f"cpu.cfs_{name}_us") or "-1" for name in ("quota", "period")]
    if len(fields) < 2 or fields[0] in ("max", "-1") or int(fields[1]) <= 0:
        return inf
    return int(fields[0]) / int(fields[1])


def _read(path: Path) -> Union[str, None]:
    try:
        return path.read_text().strip()
    except OSError:
        return None
