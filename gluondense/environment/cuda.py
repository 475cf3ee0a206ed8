# SPDX-License-Identifier: Apache-2.0
"""The CUDA libraries that MXNet needs and the GPUs of this machine, found without MXNet.

MXNet's CUDA build cannot be imported if one of its libraries is missing, so everything here asks
the dynamic loader and the driver directly.
"""

from __future__ import annotations

import ctypes
import importlib.machinery
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Optional

from .elf import GPUCode, gpu_code, needed_libraries

__all__ = ["CU112", "GPU", "LIBRARIES", "find_gpus", "find_library", "mxnet_library", "preload"]


class Library(NamedTuple):
    """A row of `LIBRARIES`: a library of NVIDIA, its package on PyPI, how it tells its version."""

    title: str
    package: Optional[str] = None
    version: Optional[str] = None
    restype: type = ctypes.c_int  # int f(int*) unless the version is what the function returns


# Names up to ".so" of what mxnet-cu112 needs. The packages are the last for CUDA 11 and cuDNN 8;
# they have the sonames of CUDA 11.2.
LIBRARIES = {
    "libcuda": Library("NVIDIA driver", None, "cuDriverGetVersion"),
    "libcudart": Library("CUDA", "nvidia-cuda-runtime-cu11==11.8.89", "cudaRuntimeGetVersion"),
    "libcublas": Library("cuBLAS", "nvidia-cublas-cu11==11.11.3.6"),
    "libcufft": Library("cuFFT", "nvidia-cufft-cu11==10.9.0.58"),
    "libcurand": Library("cuRAND", "nvidia-curand-cu11==10.3.0.86"),
    "libcusolver": Library("cuSOLVER", "nvidia-cusolver-cu11==11.4.1.48"),
    "libnvrtc": Library("NVRTC", "nvidia-cuda-nvrtc-cu11==11.8.89"),
    "libnvToolsExt": Library("NVTX", "nvidia-nvtx-cu11==11.8.86"),
    "libcudnn": Library("cuDNN", "nvidia-cudnn-cu11==8.9.6.50", "cudnnGetVersion", ctypes.c_size_t),
    "libnccl": Library("NCCL", "nvidia-nccl-cu11==2.21.5", "ncclGetVersion"),
}


# Of the wheel of mxnet-cu112 1.9.1; that of mxnet-cu117 has the same.
CU112 = GPUCode(machine=((5, 0), (6, 0), (7, 0), (8, 0), (8, 6)), ptx=())


class GPU(NamedTuple):
    """A GPU of this machine; the compute capability is unknown to old versions of nvidia-smi."""

    name: str
    capability: Optional[tuple[int, int]]


class FoundLibrary(NamedTuple):
    """What the dynamic loader says about a library: its file and version, or an error."""

    name: str
    path: Optional[str] = None
    version: Optional[int] = None
    error: Optional[str] = None

    @property
    def row(self) -> Library:
        """The library's row of `LIBRARIES`."""
        return LIBRARIES[self.name.partition(".so")[0]]


def mxnet_library() -> Optional[Path]:
    """Return the shared library of the installed MXNet, None without one; MXNet isn't imported."""
    spec = importlib.machinery.PathFinder.find_spec("mxnet")
    if spec is None or spec.origin is None:
        return None
    library = Path(spec.origin).with_name("libmxnet.so")
    return library if library.is_file() else None


@lru_cache  # not `cache`: SageMaker's containers have Python 3.8
def cuda_libraries(library: Path) -> tuple[str, ...]:
    """Return the names of NVIDIA's libraries that MXNet's library needs; none for a CPU build."""
    names = needed_libraries(library)
    return tuple(name for name in names if name.partition(".so")[0] in LIBRARIES)


@lru_cache  # not `cache`: SageMaker's containers have Python 3.8
def mxnet_gpu_code(library: Path) -> GPUCode:
    """Return the GPU code of MXNet's library."""
    return gpu_code(library)


def preload() -> None:
    """Load CUDA libraries that pip installed, so that the loader finds them for MXNet's library.

    The packages ``nvidia-…-cu11`` put them into ``site-packages/nvidia/*/lib``, where the loader
    does not look. Libraries of the system or of ``LD_LIBRARY_PATH`` take precedence.
    """
    folders = [folder for entry in sys.path for folder in Path(entry).glob("nvidia/*/lib")]
    library = mxnet_library() if folders else None
    for name in cuda_libraries(library) if library else ():
        if _load(name) is None:
            files = (folder / name for folder in folders)
            for file in filter(Path.is_file, files):
                _load(str(file))


def find_library(name: str) -> FoundLibrary:
    """Load a library and return its file and version, or the loader's error."""
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        return FoundLibrary(name, error=str(error))
    found = FoundLibrary(name, _path_in_process(name))
    function = getattr(library, found.row.version or "", None)
    if function is None:
        return found
    if found.row.restype is ctypes.c_size_t:
        function.restype = ctypes.c_size_t
        return found._replace(version=function())
    number = ctypes.c_int(0)
    status = function(ctypes.byref(number))
    return found._replace(version=number.value if status == 0 else None)


def nvrtc_capabilities(library: Path) -> tuple[tuple[int, int], ...]:
    """Return the compute capabilities for which NVRTC compiles, () if it is not found."""
    names = (name for name in cuda_libraries(library) if name.startswith("libnvrtc."))
    nvrtc = _load(next(names, ""))
    count = ctypes.c_int(0)
    try:
        if nvrtc is None or nvrtc.nvrtcGetNumSupportedArchs(ctypes.byref(count)):
            return ()
        archs = (ctypes.c_int * count.value)()
        nvrtc.nvrtcGetSupportedArchs(archs)
    except AttributeError:  # NVRTC before CUDA 11.2
        return ()
    return tuple((arch // 10, arch % 10) for arch in archs)


def find_gpus() -> list[GPU]:
    """Return the GPUs that the driver lets this process use, or those that nvidia-smi lists.

    The second list is not empty for a process that lacks the driver's library, as in a container
    that was started without ``--gpus``.
    """
    driver = _load("libcuda.so.1")
    gpus = _gpus_of_driver(driver) if driver is not None else None
    return _gpus_of_nvidia_smi() if gpus is None else gpus


def _load(name: str) -> Optional[ctypes.CDLL]:
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


def _path_in_process(name: str) -> Optional[str]:
    """Return the file of a loaded library, from the maps of this process."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return None
    paths = (line.split(maxsplit=5)[5] for line in lines if "/" in line)
    stem = name.partition(".so")[0] + ".so"  # the soname is often a link to libcudart.so.11.8.89
    return next((path for path in paths if Path(path).name.startswith(stem)), None)


def _gpus_of_driver(driver: ctypes.CDLL) -> Optional[list[GPU]]:
    count = ctypes.c_int(0)
    try:
        if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
            return None
        return [_gpu_of_driver(driver, number) for number in range(count.value)]
    except AttributeError:  # a stub of the driver
        return None


def _gpu_of_driver(driver: ctypes.CDLL, number: int) -> GPU:
    device, name = ctypes.c_int(0), ctypes.create_string_buffer(256)
    driver.cuDeviceGet(ctypes.byref(device), number)
    driver.cuDeviceGetName(name, len(name), device)
    major, minor = ctypes.c_int(0), ctypes.c_int(0)
    driver.cuDeviceGetAttribute(ctypes.byref(major), 75, device)  # compute capability, major
    driver.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
    return GPU(name.value.decode(errors="replace"), (major.value, minor.value))


def _gpus_of_nvidia_smi() -> list[GPU]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=name,compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    rows = [line.rpartition(",") for line in done.stdout.splitlines() if "," in line]
    return [GPU(name.strip(), _capability(text)) for name, _, text in rows]


def _capability(text: str) -> Optional[tuple[int, int]]:
    major, _, minor = text.strip().partition(".")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None
