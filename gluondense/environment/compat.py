# SPDX-License-Identifier: Apache-2.0
"""Names that NumPy and Python have removed and MXNet 1.9.1 or GluonCV 0.10.5 still read.

:mod:`gluondense.environment.mxnet_import` adds them to the process; `applied` lists them. A name is
added only if reading it fails or warns, so nothing that works is replaced.
"""

from __future__ import annotations

import ctypes
import importlib
import re
import struct
import sys
import types
import warnings
from functools import total_ordering
from math import inf
from numbers import Number
from typing import Any

import numpy

__all__ = ["NUMPY_NAMES", "add_names", "applied", "replace_recordio"]

applied: list[str] = []


def _removed(name: str) -> Any:
    message = f"numpy.{name} was removed from NumPy: use the package numpy_financial"

    def removed(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(message)

    return removed


NUMPY_NAMES: dict[str, Any] = {
    # removed in NumPy 1.24, and a warning before
    "bool": bool,
    "int": int,
    "float": float,
    # removed in NumPy 2.0
    "PZERO": 0.0,
    "NZERO": -0.0,
    "PINF": inf,
    "NINF": -inf,
    "Inf": inf,
    "NAN": numpy.nan,
    "NaN": numpy.nan,
    "alltrue": numpy.all,
    "sometrue": numpy.any,
    "product": numpy.prod,
    "round_": numpy.around,
    "msort": lambda a: numpy.sort(a, axis=0),
    # removed after NumPy 2.0
    "in1d": lambda ar1, ar2, **kwargs: numpy.isin(numpy.ravel(ar1), ar2, **kwargs),
    "trapz": getattr(numpy, "trapezoid", None),
    # removed in NumPy 1.20 and still re-exported by mxnet.numpy
    **{name: _removed(name) for name in ("mirr", "npv", "pmt", "ppmt", "pv", "rate")},
}


def add_names() -> None:
    """Add the missing names to NumPy, and ``distutils.version`` if Python has none."""
    _add_numpy_names()
    _add_numpy_core()
    _add_distutils()


def _put(module: types.ModuleType, name: str, value: Any) -> None:
    setattr(module, name, value)
    if (label := f"{module.__name__}.{name}") not in applied:
        applied.append(label)


def _add_numpy_names() -> None:
    for name, value in NUMPY_NAMES.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                getattr(numpy, name)
        except (AttributeError, Warning):
            _put(numpy, name, value)


def _add_numpy_core() -> None:
    """Add the name that ``mx.nd.moveaxis`` reads from ``numpy.core``, which NumPy 2 deprecates."""
    if int(numpy.__version__.split(".")[0]) >= 2:
        numeric = importlib.import_module("numpy.core.numeric")
        array_utils = importlib.import_module("numpy.lib.array_utils")
        _put(numeric, "normalize_axis_tuple", array_utils.normalize_axis_tuple)


@total_ordering
class _Version:
    """The part of ``distutils.version`` that MXNet and GluonCV use: comparison of releases."""

    def __init__(self, text: str) -> None:
        self.vstring = text
        release = re.match(r"[\d.]*", text)
        self.version = [int(number) for number in re.findall(r"\d+", release[0] if release else "")]

    def __eq__(self, other: object) -> bool:
        return self.version == _Version(str(other)).version

    def __lt__(self, other: object) -> bool:
        return self.version < _Version(str(other)).version

    def __str__(self) -> str:
        return self.vstring


def _add_distutils() -> None:
    """Replace distutils, which Python 3.12 removed, unless setuptools provides it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated in Python 3.10 and 3.11
            importlib.import_module("distutils.version")
    except ImportError:
        package, version = types.ModuleType("distutils"), types.ModuleType("distutils.version")
        package.__path__ = []
        vars(version).update(LooseVersion=_Version, StrictVersion=_Version)
        vars(package).update(version=version)
        sys.modules.update({"distutils": package, "distutils.version": version})
        applied.append("distutils.version")


def accept_any_path(mxnet: Any) -> None:
    """Let MXNet open paths that are not text in the locale's encoding, such as ü in ASCII.

    Python represents their bytes by surrogates, which MXNet's conversion to UTF-8 refuses.
    """

    def c_str(text: str) -> ctypes.c_char_p:
        return ctypes.c_char_p(text.encode("utf-8", "surrogateescape"))

    for module in (mxnet.ndarray.utils, mxnet.symbol.symbol, mxnet.library):
        module.c_str = c_str


def replace_recordio(mxnet: Any) -> None:
    """Replace the two functions that call ``ndarray.tostring``, which NumPy 2.3 removed."""
    recordio = mxnet.recordio

    def pack(header: Any, s: bytes) -> bytes:
        header = recordio.IRHeader(*header)
        if isinstance(header.label, Number):
            return struct.pack(recordio._IR_FORMAT, *header._replace(flag=0)) + s
        label = numpy.asarray(header.label, dtype=numpy.float32)
        header = header._replace(flag=label.size, label=0)
        return struct.pack(recordio._IR_FORMAT, *header) + label.tobytes() + s

    def pack_img(header: Any, img: Any, quality: int = 95, img_fmt: str = ".jpg") -> bytes:
        cv2 = importlib.import_module("cv2")
        jpeg, png = cv2.IMWRITE_JPEG_QUALITY, cv2.IMWRITE_PNG_COMPRESSION
        flag = {".JPG": jpeg, ".JPEG": jpeg, ".PNG": png}.get(img_fmt.upper())
        encoded, buffer = cv2.imencode(img_fmt, img, None if flag is None else [flag, quality])
        if not encoded:
            raise ValueError(
                f"cannot encode an image as `img_fmt` (={img_fmt!r}): use '.jpg' or '.png'"
            )
        return pack(header, buffer.tobytes())

    for function in (pack, pack_img):
        function.__doc__ = getattr(recordio, function.__name__).__doc__
        _put(recordio, function.__name__, function)
