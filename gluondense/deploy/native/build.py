"""The compiled operator: built once a machine, by the C++ compiler that is there."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import mxnet as mx

from ...download import cache_folder

SOURCES = Path(__file__).with_name("src")
OPERATOR = "gluondense_program"
FLAGS = (
    "-O3",
    "-std=c++17",
    "-fPIC",
    "-fopenmp",
    "-fvisibility=hidden",
    "-ffp-contract=fast",
    "-fno-math-errno",
)
# The inner loops are compiled once for each; which one runs is found out when the library loads.
KERNELS = ("kernels", "kernels_bytes")
AVX512 = (
    "-mavx512f",
    "-mavx512bw",
    "-mavx512dq",
    "-mavx512vl",
    "-mfma",
    "-mprefer-vector-width=512",
)
INSTRUCTION_SETS: dict[str, dict[str, tuple[str, ...]]] = {
    "x86_64": {
        "base": (),
        "avx2": ("-mavx2", "-mfma"),
        "avx512": AVX512,
        "avx512vnni": (*AVX512, "-mavx512vnni"),
    },
}
# MXNet's side of an extension, but for one function that src/operator.cc has.
LIB_API_FLAGS = ("-fvisibility=default", "-D_opRegSize=lib_api_opRegSize")


class CompilerError(ValueError):
    """There is no C++ compiler, or it does not compile the operator."""


def build(folder: str | os.PathLike[str] | None = None) -> Path:
    """Compile the operator, unless this source has been compiled before.

    Parameters
    ----------
    folder
        Where to; ``$MXNET_HOME/native`` by default, else ``~/.mxnet/native``.

    Returns
    -------
    Path
        The library, for ``mx.library.load``.

    Raises
    ------
    CompilerError
        If there is no C++ compiler (``$CXX``, else ``g++`` or ``clang++``), or it fails.
    """
    folder = cache_folder("native", folder)
    library = folder / f"gluondense-{_fingerprint()}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".build-", dir=folder) as work:
            os.replace(_compile(_compiler(), Path(work)), library)
    return library


def load() -> None:
    """Give MXNet the operator, unless it has it.

    Raises
    ------
    CompilerError
        As :func:`build`.
    """
    if not loaded():
        mx.library.load(str(build().resolve()), verbose=False)


def loaded() -> bool:
    """Whether MXNet has the operator."""
    return hasattr(mx.sym, OPERATOR)


def _compiler() -> str:
    wanted = os.environ.get("CXX")
    found = next(filter(None, map(shutil.which, [wanted] if wanted else ["g++", "clang++"])), None)
    if found is None:
        raise CompilerError(
            f"there is no C++ compiler {wanted or 'g++'} for the native operator: install one "
            "(apt install g++), or use target='onednn'."
        )
    return found


def _fingerprint() -> str:
    """Of everything that the library is made of."""
    digest = hashlib.sha256(f"{mx.__version__} {FLAGS} {INSTRUCTION_SETS}".encode())
    for file in sorted(SOURCES.iterdir()):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _compile(compiler: str, work: Path) -> Path:
    mxnet = Path(mx.__file__).parent
    flags = [*FLAGS, "-isystem", str(mxnet / "include")]
    parts: list[tuple[Path, str, tuple[str, ...]]] = [
        (file, file.stem, ()) for file in SOURCES.glob("*.cc") if file.stem not in KERNELS
    ]
    parts.append((mxnet / "src/lib_api.cc", "lib_api", LIB_API_FLAGS))
    for name, more in INSTRUCTION_SETS.get(platform.machine(), {"base": ()}).items():
        names = (f"-DGLUONDENSE_ISA={name}", f'-DGLUONDENSE_NAME="{name}"')
        parts += [(SOURCES / f"{stem}.cc", f"{stem}_{name}", (*more, *names)) for stem in KERNELS]
    objects = [work / f"{stem}.o" for _, stem, _ in parts]
    runs = [
        subprocess.Popen(
            [compiler, *flags, *more, "-c", str(file), "-o", str(goal)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for (file, _, more), goal in zip(parts, objects)
    ]
    messages = [run.communicate()[1] for run in runs]
    for run, message in zip(runs, messages):
        _check(compiler, run.returncode, message)
    library = work / "gluondense.so"
    link = [compiler, "-shared", "-fopenmp", *map(str, objects), "-o", str(library)]
    done = subprocess.run(link, stderr=subprocess.PIPE, text=True)
    _check(compiler, done.returncode, done.stderr)
    return library


def _check(compiler: str, code: int, messages: str) -> None:
    if code:
        first = next((line for line in messages.splitlines() if "error" in line), messages.strip())
        raise CompilerError(
            f"{compiler} cannot compile the native operator ({first.strip()}): set CXX to another "
            "compiler of C++17, or use target='onednn'."
        )
