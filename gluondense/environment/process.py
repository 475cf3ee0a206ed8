"""What MXNet 1.9.1 needs of its process: threads, old names, or an error that says the fix.

``import gluondense`` calls `prepare` before anything imports MXNet. It does four things:

- sets ``OMP_NUM_THREADS`` to the physical cores that this process may use (MXNet alone takes half
  of the logical ones; ``GLUONDENSE_SHARE=N`` shares them among N processes) and ``GOMP_SPINCOUNT``
  to a short spin, unless the user has set them;
- adds the names that NumPy and Python have removed and MXNet 1.9.1 or GluonCV still read;
- imports MXNet, and turns whatever stops it into one `ImportError` that names the fix;
- replaces the two functions of ``mxnet.recordio`` that call the removed ``ndarray.tostring``.

`patches` lists what was added. ``GLUONDENSE_COMPAT=0`` in the environment adds nothing.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import Union

import numpy

from . import compat

__all__ = ["MXNetImportedFirstWarning", "import_gluoncv", "patches", "prepare", "usable_cores"]

OLDEST_PYTHON, NEWEST_PYTHON = (3, 9), (3, 13)
PLATFORMS = (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "x86_64"))  # of the wheels
INSTALL = (
    'pip install "gluondense[cpu]" (or "gluondense[cu112]" for an NVIDIA GPU), '
    "on Python 3.13 or with NumPy 2: pip install --no-deps mxnet==1.9.1"
)

# A fragment of the dynamic loader's message -> what the user does about it.
MISSING_LIBRARIES = {
    "libquadmath": "apt install libquadmath0 (Debian, Ubuntu) or yum install libquadmath",
    "libgomp": "apt install libgomp1 (Debian, Ubuntu) or yum install libgomp",
    "libcuda.so": "this is mxnet-cu112 on a machine without an NVIDIA driver: "
    "install the driver, or pip uninstall mxnet-cu112 and pip install mxnet==1.9.1",
    "libcu": "mxnet-cu112 needs CUDA 11.2 and cuDNN 8 on LD_LIBRARY_PATH, mxnet==1.9.1 neither",
    "libnccl": "mxnet-cu112 needs NCCL 2 on LD_LIBRARY_PATH, mxnet==1.9.1 does not",
    "libnv": "mxnet-cu112 needs CUDA 11.2 on LD_LIBRARY_PATH, mxnet==1.9.1 does not",
}


class MXNetImportedFirstWarning(UserWarning):
    """MXNet was imported before gluondense, so the thread settings came too late."""


def prepare() -> None:
    """Make the process ready for MXNet and import it.

    Raises
    ------
    ImportError
        Where MXNet cannot run; the message names the fix.
    """
    if not OLDEST_PYTHON <= sys.version_info[:2] <= NEWEST_PYTHON:
        raise ImportError(
            f"MXNet 1.9.1 runs on Python 3.9 to 3.13, this is {platform.python_version()}: "
            "install Python 3.11 and make a virtual environment with it"
        )
    _set_threads()
    if _compat_wanted():
        compat.add_names()
    mxnet = _import_mxnet()
    if _compat_wanted():
        compat.replace_recordio(mxnet)


def drop_server_threads() -> None:
    """Take back an ``OMP_NUM_THREADS`` that this process set itself after it was started.

    multi-model-server's workers set it to 1 where the user has not set it.
    """
    try:
        started_with = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return  # no Linux: nobody can tell
    if not any(entry.startswith(b"OMP_NUM_THREADS=") for entry in started_with):
        os.environ.pop("OMP_NUM_THREADS", None)


def patches() -> tuple[str, ...]:
    """Return the names that were added or replaced in other packages, in the order of doing.

    Examples
    --------
    >>> from gluondense import environment
    >>> "mxnet.recordio.pack" in environment.patches()
    True
    """
    return tuple(compat.applied)


def import_gluoncv() -> types.ModuleType:
    """Import GluonCV whatever else is installed.

    GluonCV 0.10.5 refuses to be imported beside PyTorch 2, which it does not need, so PyTorch is
    hidden from it while it is imported for the first time.

    Examples
    --------
    >>> from gluondense import environment
    >>> environment.import_gluoncv().__name__
    'gluoncv'
    """
    torch = sys.modules.get("torch")
    sys.modules["torch"] = None  # type: ignore[assignment]  # documented to block an import
    try:
        with _quiet_imports():
            return importlib.import_module("gluoncv")
    finally:
        del sys.modules["torch"]
        if torch is not None:
            sys.modules["torch"] = torch


def usable_cores(root: Union[str, Path] = "/") -> int:
    """Return how many physical cores this process may use, by its affinity and cgroup quota.

    Parameters
    ----------
    root
        Where ``sys`` and ``proc`` are; another folder only in tests.

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
    # Rounded down: more threads than the quota would be stopped in the middle of every period.
    return max(1, int(min(len(siblings), _cgroup_quota(root))))


def _compat_wanted() -> bool:
    return os.environ.get("GLUONDENSE_COMPAT", "1") != "0"


def _set_threads() -> None:
    share = os.environ.get("GLUONDENSE_SHARE", "1")  # set by the launcher of distributed runs
    threads = max(1, usable_cores() // int(share)) if share.isdigit() and int(share) else 1
    defaults = {"OMP_NUM_THREADS": str(threads)}
    if "OMP_WAIT_POLICY" not in os.environ:  # it is the user's say on spinning too
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
    """Return the CPUs that the cgroups of this process allow, ``inf`` where none limits them."""
    quotas = [inf]
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = (
            root / "sys/fs/cgroup" / controllers
        )  # v2 names no controller and is mounted right there
        folder = mount / group.lstrip("/")
        # A container often sees only its own group, mounted as the root, so each level up is tried.
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


@contextmanager
def _quiet_imports() -> Iterator[None]:
    """Hide what MXNet's and GluonCV's own import lines warn of; users can do nothing about it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", UserWarning)
        yield


def _import_mxnet() -> types.ModuleType:
    try:
        with _quiet_imports():
            mxnet = importlib.import_module("mxnet")
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise ImportError(_why_not(error)) from None  # the message has all of it
    if not getattr(mxnet, "__version__", "").startswith("1.9."):
        version = getattr(mxnet, "__version__", "without a version, perhaps a folder named mxnet")
        raise ImportError(f"gluondense needs MXNet 1.9.1, this is {version}: {INSTALL}")
    return mxnet


def _why_not(error: Exception) -> str:
    """Say what stopped ``import mxnet`` and what to do about it."""
    if isinstance(error, ModuleNotFoundError) and error.name == "mxnet":
        if (sys.platform, platform.machine()) not in PLATFORMS:
            return (
                f"MXNet 1.9.1 has no package for {sys.platform} on {platform.machine()}: "
                "use Linux on x86-64, in a container or WSL if need be"
            )
        return f"MXNet is not installed: {INSTALL}"
    for fragment, fix in MISSING_LIBRARIES.items():
        if fragment in str(error):
            return f"MXNet cannot load ({error}): {fix}"
    if not _compat_wanted():
        return (
            f"MXNet 1.9.1 cannot be imported with NumPy {numpy.__version__} on Python "
            f"{platform.python_version()} ({error}): unset GLUONDENSE_COMPAT, or use Python 3.11 "
            "with 'numpy<1.24'"
        )
    return (
        f"MXNet cannot be imported ({type(error).__name__}: {error}): reinstall it with {INSTALL}"
    )
