# SPDX-License-Identifier: Apache-2.0
"""Compilation of the native operators, once on each machine, with its C++ compiler."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

import mxnet as mx

from ..download.file import cache_folder
from ..environment.process import usable_cores
from ..files import sha256, write_bytes

logger = logging.getLogger(__name__)

SOURCES = Path(__file__).with_name("src")
# Compiled once for each instruction set; the library chooses one when it is first used.
PER_ISA = SOURCES / "kernels" / "per_isa"
OPERATOR = "gluondense_program"
BOXES = "gluondense_boxes"  # decodes and suppresses the boxes of a YOLOv3
FLAGS: tuple[str, ...] = ("-O3", "-ffp-contract=fast", "-fno-math-errno")
FLAGS += ("-std=c++17", "-fPIC", "-fopenmp", "-fvisibility=hidden")
AVX512: tuple[str, ...] = ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl")
AVX512 += ("-mfma", "-mprefer-vector-width=512")
AVX512BF16: tuple[str, ...] = (*AVX512, "-mavx512vnni", "-mavx512bf16")
X86_64: dict[str, tuple[str, ...]] = {
    "base": (),
    "avx2": ("-mavx2", "-mfma"),
    "avx512": AVX512,
    "avx512vnni": (*AVX512, "-mavx512vnni"),
    "avx512bf16": AVX512BF16,
    "amx": (*AVX512BF16, "-mamx-tile", "-mamx-bf16", "-mamx-int8"),
}
INSTRUCTION_SETS = X86_64 if platform.machine() == "x86_64" else {"base": ()}
# Each probe uses an instruction: a compiler may have the flag and no assembler that knows it.
PROBES = {
    "avx512vnni": 'void f() { asm("vpdpbusd %zmm0, %zmm1, %zmm2"); }',
    "avx512bf16": 'void f() { asm("vdpbf16ps %zmm0, %zmm1, %zmm2"); }',
    "amx": 'void f() { asm("tdpbf16ps %tmm0, %tmm1, %tmm2"); }',
}
# MXNet's part of an extension; src/inference/program_operator.cc replaces one of its functions.
LIB_API_FLAGS = ("-fvisibility=default", "-D_opRegSize=lib_api_opRegSize")


class CompilerError(ValueError):
    """There is no C++ compiler, or it cannot compile the operators."""


def build(folder: str | os.PathLike[str] | None = None) -> Path:
    """Compile the operators, unless a library of the same sources and flags exists.

    The library's SHA-256 is stored beside it. A damaged or incomplete library is compiled again.

    Parameters
    ----------
    folder
        Folder of the library; ``$MXNET_HOME/native`` by default, or ``~/.mxnet/native``.

    Returns
    -------
    Path
        The library, which ``mx.library.load`` takes.

    Raises
    ------
    CompilerError
        If there is no C++ compiler (``$CXX``, or ``g++`` or ``clang++``), or it fails.
    OSError
        If the folder cannot be written.
    """
    library = library_path(folder)
    folder = library.parent
    checksum = library.with_name(f"{library.name}.sha256")
    if library.exists():
        if _is_intact(library, checksum):
            return library
        logger.warning("%s is damaged or has no checksum: it is compiled again.", library)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        work = tempfile.TemporaryDirectory(prefix=".build-", dir=folder)
    except OSError as error:
        raise type(error)(
            f"cannot write the native operator to {folder} ({error.strerror}): set MXNET_HOME to a "
            "folder of yours."
        ) from None
    with work:
        compiled = _compile(find_compiler(), Path(work.name))
        digest = sha256(compiled)
        os.replace(compiled, library)
        write_bytes(checksum, f"{digest}  {library.name}\n".encode())
    return library


def library_path(folder: str | os.PathLike[str] | None = None) -> Path:
    """Return the file that :func:`build` writes."""
    return cache_folder("native", folder) / f"gluondense-{_fingerprint()}.so"


def _is_intact(library: Path, checksum: Path) -> bool:
    """Return whether a library has the SHA-256 that was stored when it was compiled."""
    try:
        return checksum.read_text(encoding="utf-8").split()[:1] == [sha256(library)]
    except (OSError, UnicodeDecodeError):
        return False


def load(operator: str = OPERATOR) -> None:
    """Load the operators into MXNet, unless it has ``operator`` already.

    Raises
    ------
    CompilerError
        As in :func:`build`.
    RuntimeError
        If MXNet has loaded another version of the operators before.
    """
    if not loaded(operator):
        mx.library.load(str(build().resolve()), verbose=False)
    if not loaded(operator):
        raise RuntimeError(
            f"MXNet was given native operators before, and lacks {operator}: start a new process "
            "without GLUONDENSE_NATIVE_LOADED in its environment, and load no export of an older "
            "gluondense in it first."
        )


def loaded(operator: str = OPERATOR) -> bool:
    """Return whether MXNet has an operator."""
    return hasattr(mx.sym, operator)


def find_compiler() -> list[str]:
    """Return the command of the C++ compiler: ``$CXX``, or ``g++`` or ``clang++``.

    Raises a `CompilerError` if it is not installed.
    """
    wanted = shlex.split(os.environ.get("CXX", ""))
    found = next((name for name in (wanted[:1] or ["g++", "clang++"]) if shutil.which(name)), None)
    if found is None:
        raise CompilerError(
            f"there is no C++ compiler {' '.join(wanted) or 'g++'} for the native operator: "
            "install one (apt install g++), or use target='onednn' for exports."
        )
    return [found, *wanted[1:]]


def _fingerprint() -> str:
    """Hash all that the library depends on."""
    made_of = (mx.__version__, platform.machine(), os.environ.get("CXX"), FLAGS, INSTRUCTION_SETS)
    digest = hashlib.sha256(repr((*made_of, LIB_API_FLAGS)).encode())
    for file in sorted(path for path in SOURCES.rglob("*") if path.is_file()):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _compile(compiler: list[str], work: Path) -> Path:
    mxnet = Path(mx.__file__).parent
    include = ("-I", str(SOURCES), "-isystem", str(mxnet / "include"))
    sets = instruction_sets(compiler)
    has = tuple(f"-DGLUONDENSE_HAS_{name}" for name in sets)
    sources = set(SOURCES.rglob("*.cc"))
    kernels = {file for file in sources if file.parent == PER_ISA}
    version = f'-DGLUONDENSE_FINGERPRINT="{_fingerprint()}"'
    units = [(file, file.stem, (*has, version)) for file in sources - kernels]
    units.append((mxnet / "src/lib_api.cc", "lib_api", LIB_API_FLAGS))
    for name, flags in sets.items():
        names = (f"-DGLUONDENSE_ISA_NAMESPACE={name}", f'-DGLUONDENSE_ISA_NAME="{name}"')
        units += [(file, f"{file.stem}_{name}", (*flags, *names)) for file in kernels]

    compilers = _Compilers()

    def compile_unit(unit: tuple[Path, str, tuple[str, ...]]) -> str:
        file, stem, flags = unit
        target = str(work / f"{stem}.o")
        _run([*compiler, *FLAGS, *include, *flags, "-c", str(file)], target, compilers)
        return target

    library = work / "gluondense.so"
    with ThreadPoolExecutor(usable_cores()) as pool:
        try:
            objects = _results([pool.submit(compile_unit, unit) for unit in sorted(units)])
            _run([*compiler, "-shared", "-fopenmp", *objects], str(library), compilers)
        except BaseException:  # an error of one, or Ctrl-C: the pool would wait for the others
            compilers.stop()
            raise
    return library


def _results(futures: Sequence[Future[str]]) -> list[str]:
    """Return the results; a signal is handled within a second.

    Python does not wake its main thread for a signal that comes just before a wait, so no wait is
    long.
    """
    while any(not future.done() for future in futures):
        done = wait(futures, 1, FIRST_EXCEPTION).done
        for future in done:
            future.result()  # raises the exception of one that failed
    return [future.result() for future in futures]


def instruction_sets(compiler: list[str]) -> dict[str, tuple[str, ...]]:
    """Return the rows of `INSTRUCTION_SETS` that a compiler knows."""
    return {k: flags for k, flags in INSTRUCTION_SETS.items() if _knows(compiler, k, flags)}


def _knows(compiler: list[str], name: str, flags: tuple[str, ...]) -> bool:
    """Whether a compiler has the flags and the instructions; GCC 9 has no bfloat16."""
    command = [*compiler, *flags, "-x", "c++", "-c", "-", "-o", os.devnull]
    done = subprocess.run(command, input=PROBES.get(name, ""), capture_output=True, text=True)
    return done.returncode == 0


class _Compilers:
    """The compilers that run; after `stop` none does, and none starts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False

    def run(self, command: list[str]) -> tuple[int, str]:
        """Run a compiler; return its exit code and its messages."""
        with self._lock:
            if self._stopped:
                raise CompilerError("stopped")
            options: dict[str, Any] = {"stderr": subprocess.PIPE, "text": True}
            process = subprocess.Popen(command, start_new_session=True, **options)
            self._running.add(process)
        with process:
            messages = process.communicate()[1]
        with self._lock:
            self._running.discard(process)
        return process.returncode, messages

    def stop(self) -> None:
        """Kill all compilers, with the processes that they started."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def _run(command: list[str], output: str, compilers: _Compilers) -> None:
    """Run a compiler and check its output."""
    code, messages = compilers.run([*command, "-o", output])
    if not code and not (os.path.isfile(output) and os.path.getsize(output)):
        raise CompilerError(
            f"{command[0]} succeeded without compiling the native operator: set CXX to a compiler "
            "of C++17, or use target='onednn' for exports."
        )
    if code:
        lines = messages.strip().splitlines() or ["no message"]
        first = next((line for line in lines if "error" in line), lines[-1])
        raise CompilerError(
            f"{command[0]} cannot compile the native operator ({first.strip()}): set CXX to "
            "another compiler of C++17, or use target='onednn' for exports."
        )
