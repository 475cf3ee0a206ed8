# SPDX-License-Identifier: Apache-2.0
"""An import hook for MXNet 1.9.1: old names, deferred optional imports, errors that name the fix.

:func:`install` puts the hook into ``sys.meta_path``. It acts once, when anything imports ``mxnet``:

- CUDA libraries that pip installed are loaded (:mod:`gluondense.environment.cuda`);
- NumPy and Python get the removed names that MXNet reads (:mod:`gluondense.environment.compat`);
- the optional and rarely used imports of MXNet are deferred until they are used, which more than
  halves the time of its import;
- any error of the import becomes one `ImportError` that names the fix;
- the functions of ``mxnet.recordio`` that call the removed ``ndarray.tostring`` are replaced.

``GLUONDENSE_COMPAT=0`` in the environment limits the hook to the errors.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.machinery
import os
import platform
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, Callable, Optional

__all__ = ["check", "install"]

PLATFORMS = (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "x86_64"))  # have wheels
INSTALL = (
    'pip install "gluondense[cpu]" (or "gluondense[cu112]" for an NVIDIA GPU), '
    "on Python 3.13 or with NumPy 2: pip install --no-deps mxnet==1.9.1"
)

CUDA = (
    'mxnet-cu112 needs CUDA 11.2, cuDNN 8 and NCCL 2: pip install "gluondense[cuda11]", or see '
    "`gluondense doctor`; mxnet==1.9.1 needs none of them"
)

# A fragment of the dynamic loader's message -> the fix.
MISSING_LIBRARIES = {
    "libquadmath": "apt install libquadmath0 (Debian, Ubuntu) or yum install libquadmath",
    "libgomp": "apt install libgomp1 (Debian, Ubuntu) or yum install libgomp",
    "libcuda.so": "this is mxnet-cu112 on a machine without an NVIDIA driver: "
    "install the driver, or pip uninstall mxnet-cu112 and pip install mxnet==1.9.1",
    **dict.fromkeys(("libcu", "libnccl", "libnv"), CUDA),
}

# MXNet imports these at its top but uses them only in single functions.
DEFERRED = ("cv2", "h5py", "onnx", "requests", "scipy", "scipy.sparse", "scipy.stats")
# Only the base class of the deprecated ``mxnet.model.FeedForward``; MXNet does without it.
BLOCKED = ("sklearn",)


def install() -> None:
    """Install the hook; apply its last step at once if MXNet has been imported before."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    if sys.modules.get("mxnet") is not None:
        check(sys.modules["mxnet"])


def compat_wanted() -> bool:
    """Whether missing names may be added to other packages."""
    return os.environ.get("GLUONDENSE_COMPAT", "1") != "0"


def _add_names() -> bool:
    """Add the missing names to other packages, if that is wanted; return whether it is."""
    wanted = compat_wanted()
    if wanted:
        from . import compat

        compat.add_names()
    return wanted


def check(mxnet: types.ModuleType) -> None:
    """Check that this is MXNet 1.9, and replace its broken functions."""
    if not getattr(mxnet, "__version__", "").startswith("1.9."):
        version = getattr(mxnet, "__version__", "without a version, perhaps a folder named mxnet")
        message = f"gluondense needs MXNet 1.9.1, this is {version}: {INSTALL}"
        raise ImportError(message, name="mxnet")
    if compat_wanted():
        from . import compat

        compat.replace_recordio(mxnet)
        compat.accept_any_path(mxnet)


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Hide the warnings of MXNet's and GluonCV's own import lines; users cannot mend them."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, SyntaxWarning, UserWarning):
            warnings.simplefilter("ignore", category)
        yield


class _Finder:
    """Finds ``mxnet`` as the other finders do, and wraps the execution of the module."""

    def find_spec(
        self, name: str, path: Any = None, target: Any = None
    ) -> Optional[importlib.machinery.ModuleSpec]:
        if name == "gluoncv":  # it reads the same names before it imports MXNet
            _add_names()
        if name != "mxnet":
            return None
        others = (finder for finder in sys.meta_path if not isinstance(finder, _Finder))
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is None or spec.loader is None:  # not installed, or a mere folder of that name
            # Not a subclass of Loader: the import of importlib.abc takes 2 ms.
            return importlib.machinery.ModuleSpec(name, _Missing())  # type: ignore[arg-type]
        spec.loader.exec_module = partial(_execute, spec.loader.exec_module)  # type: ignore[method-assign]
        return spec


class _Missing:
    """Loader that fails with the fix: looking for MXNet is no error, importing it is."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        reason = f"MXNet is not installed: {INSTALL}"
        if (sys.platform, platform.machine()) not in PLATFORMS:
            reason = (
                f"MXNet 1.9.1 has no package for {sys.platform} on {platform.machine()}: "
                "use Linux on x86-64, in a container or WSL if need be"
            )
        raise ModuleNotFoundError(reason, name="mxnet")


def _execute(exec_module: Callable[[types.ModuleType], None], module: types.ModuleType) -> None:
    """Execute MXNet's package with everything that it needs."""
    from . import cuda

    try:
        cuda.preload()
        with quiet_imports(), _deferred_imports() if _add_names() else nullcontext():
            exec_module(module)
    except Exception as error:
        raise ImportError(_reason(error), name="mxnet") from None  # the message has all of it
    check(module)


class _Deferred(types.ModuleType):
    """Stand-in for a module; imports it when one of its attributes is read."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # `from module import name` asks for `__path__`
            raise AttributeError(name)
        if (self.__name__, name) == ("scipy.sparse", "csr") and "scipy.sparse" not in sys.modules:
            # `mx.nd.array` asks whether its argument is a `csr_matrix`: none exists yet.
            return types.SimpleNamespace(csr_matrix=())
        return getattr(importlib.import_module(self.__name__), name)


@contextmanager
def _deferred_imports() -> Iterator[None]:
    """Give MXNet stand-ins for the modules of `DEFERRED`, and an ImportError for `BLOCKED`.

    Only the import statements of MXNet's modules get them, no other package or thread.
    """
    stand_ins: dict[str, Optional[_Deferred]] = {}
    for name in DEFERRED:
        package, _, child = name.partition(".")
        if child and package in stand_ins:
            setattr(stand_ins[package], child, _Deferred(name))
        elif not child and name not in sys.modules and _is_installed(name):
            stand_ins[name] = _Deferred(name)
    stand_ins.update({name: None for name in BLOCKED if name not in sys.modules})
    original = builtins.__import__

    def import_(
        name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
    ) -> Any:
        package, importer = name.partition(".")[0], str((globals or {}).get("__name__"))
        if level or package not in stand_ins or not importer.startswith("mxnet."):
            return original(name, globals, locals, fromlist, level)
        stand_in = stand_ins[package]
        if stand_in is None:
            raise ModuleNotFoundError(f"{importer} does without {name}", name=name)
        return stand_in

    builtins.__import__ = import_
    try:
        yield
    finally:
        builtins.__import__ = original


def _is_installed(name: str) -> bool:
    return importlib.machinery.PathFinder.find_spec(name) is not None


def _reason(error: Exception) -> str:
    """Say why ``import mxnet`` failed and name the fix."""
    for fragment, fix in MISSING_LIBRARIES.items():
        if fragment in str(error):
            return f"MXNet cannot load ({error}): {fix}"
    if not compat_wanted():
        import numpy

        return (
            f"MXNet 1.9.1 cannot be imported with NumPy {numpy.__version__} on Python "
            f"{platform.python_version()} ({error}): unset GLUONDENSE_COMPAT, or use Python 3.11 "
            "with 'numpy<1.24'"
        )
    kind = type(error).__name__
    return f"MXNet cannot be imported ({kind}: {error}): reinstall it with {INSTALL}"
