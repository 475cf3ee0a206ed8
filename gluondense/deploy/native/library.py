# SPDX-License-Identifier: Apache-2.0
"""The library of a native export, called without MXNet: the functions of gluondense.h."""

from __future__ import annotations

import ctypes
import os
import tempfile
import threading
import weakref
from typing import Any

import numpy as np

from ...errors import in_one_line

LIBRARY_SUFFIX = "-native.so"
_FLOATS = ctypes.POINTER(ctypes.c_float)
_SIZE = (ctypes.c_int,) * 3  # channels, height, width
# Function -> types of its arguments and of its result.
FUNCTIONS: dict[str, tuple[tuple[Any, ...], Any]] = {
    "load": ((ctypes.c_char_p,), ctypes.c_void_p),
    "free": ((ctypes.c_void_p,), None),
    "outputs": ((ctypes.c_void_p,), ctypes.c_int),
    "output_shape": (
        (ctypes.c_void_p, ctypes.c_int, *_SIZE, ctypes.POINTER(ctypes.c_size_t)),
        ctypes.c_int,
    ),
    "run": (
        (ctypes.c_void_p, _FLOATS, ctypes.c_int, *_SIZE, ctypes.POINTER(_FLOATS)),
        ctypes.c_int,
    ),
    "error": ((), ctypes.c_char_p),
}

_LIBRARIES: dict[str, dict[str, ctypes._NamedFuncPointer]] = {}  # by SHA-256


class NativeProgram:
    """The program of a native export, with its weights.

    Parameters
    ----------
    prefix, digest
        Prefix of the export's files, and the SHA-256 of its library, which is executed: verify it
        before.

    Raises
    ------
    ValueError
        If the library is of an older gluondense or does not run here, or a file is damaged.
    """

    def __init__(self, prefix: str, digest: str) -> None:
        self._functions = _open(f"{prefix}{LIBRARY_SUFFIX}", digest)
        self._lock = threading.Lock()  # a program runs in one thread at a time
        self._network = self._functions["load"](os.fsencode(prefix))
        if not self._network:
            raise ValueError(self._error())
        # Not at exit: a daemon thread may still run it.
        weakref.finalize(self, self._functions["free"], self._network).atexit = False

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """Return the outputs of images, float32 (N, C, H, W); a ValueError tells what is wrong."""
        images = np.ascontiguousarray(images, np.float32)
        outputs = [np.empty((len(images), *shape), np.float32) for shape in self._shapes(images)]
        pointers = (_FLOATS * len(outputs))(*map(_pointer, outputs))
        with self._lock:
            failed = self._functions["run"](
                self._network, _pointer(images), *images.shape, pointers
            )
        if failed:
            raise ValueError(self._error())
        return outputs

    def _shapes(self, images: np.ndarray) -> list[tuple[int, ...]]:
        """Return the shape of each output of an image."""
        shapes = []
        for index in range(self._functions["outputs"](self._network)):
            sizes = (ctypes.c_size_t * 3)()
            arguments = self._network, index, *images.shape[1:], sizes
            dimensions = self._functions["output_shape"](*arguments)
            if dimensions < 0:
                raise ValueError(self._error())
            shapes.append(tuple(sizes)[:dimensions])
        return shapes

    def _error(self) -> str:
        return in_one_line(self._functions["error"]().decode("utf-8", "replace"))


def _pointer(array: np.ndarray) -> ctypes._Pointer[ctypes.c_float]:
    return array.ctypes.data_as(_FLOATS)


def _open(path: str, digest: str) -> dict[str, ctypes._NamedFuncPointer]:
    """Return the functions of a library, which is loaded once for each content."""
    if digest not in _LIBRARIES:
        _LIBRARIES[digest] = _load(path)
    return _LIBRARIES[digest]


def _load(path: str) -> dict[str, ctypes._NamedFuncPointer]:
    try:
        with tempfile.TemporaryDirectory() as folder:
            # A path that was loaded before would give the library that it named then.
            link = os.path.join(folder, "native.so")
            os.symlink(os.path.abspath(path), link)
            library = ctypes.CDLL(link)
        functions = {name: library[f"gluondense_{name}"] for name in FUNCTIONS}
    except OSError as error:
        raise ValueError(
            f"{path} does not run on this machine ({in_one_line(error)}): export again on this one."
        ) from None
    except AttributeError:
        raise ValueError(
            f"{path} is of an older gluondense, which needs MXNet: export again."
        ) from None
    for name, (arguments, result) in FUNCTIONS.items():
        functions[name].argtypes, functions[name].restype = arguments, result
    return functions
