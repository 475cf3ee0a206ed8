# SPDX-License-Identifier: Apache-2.0
"""Open weights files of any supported format."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from typing import BinaryIO, Callable

import numpy as np

from . import mxnet as mxnet_file
from . import safetensors as safetensors_file
from .tensor_index import BFLOAT16, BadFile, Index, Source, strided_size
from .torch import file as torch_file
from .torch.globals import SAVE_AGAIN

# Enough to recognize every format; the magic of a tar archive is at byte 257.
_START = 512


class WeightsFile(Mapping[str, np.ndarray]):
    """The arrays of a file by name; each access reads one array, nothing is cached.

    bfloat16 is widened to float32; every other dtype is kept. Created by :func:`open_weights`; the
    ``with`` statement closes the file.

    Attributes
    ----------
    path, format
        The path; ``"mxnet"``, ``"safetensors"`` or ``"torch"``.
    shapes, dtypes
        Shape and dtype of each array by name; available after closing too.
    metadata
        The text metadata in the header of a safetensors file.
    """

    def __init__(self, source: Source, format: str, index: Index) -> None:
        self.path = source.path
        self.format = format
        self.metadata = index.metadata
        self.shapes = {key: array.shape for key, array in index.arrays.items()}
        self.dtypes = {
            key: np.dtype(np.float32) if array.dtype is BFLOAT16 else array.dtype
            for key, array in index.arrays.items()
        }
        self._arrays = index.arrays
        self._source = source

    def __getitem__(self, key: str) -> np.ndarray:
        offset, dtype, shape, strides = self._arrays[key]
        if strides is None:
            array = self._source.read_array(offset, np.empty(shape, dtype))
        else:
            size = strided_size(shape, strides)
            storage = self._source.read_array(offset, np.empty(size, dtype))
            in_bytes = [stride * dtype.itemsize for stride in strides]
            # The reader of the index has checked that the view stays inside the storage.
            view = np.lib.stride_tricks.as_strided(storage, shape, in_bytes, writeable=False)
            array = np.array(view, order="C")
        return _widen(array) if dtype is BFLOAT16 else array

    def read_into(self, key: str, out: np.ndarray) -> None:
        """Read an array into contiguous memory of the same shape, cast to its dtype."""
        offset, dtype, _, strides = self._arrays[key]
        if dtype == out.dtype and strides is None:
            self._source.read_array(offset, out)
        else:
            out[...] = self[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __contains__(self, key: object) -> bool:
        return key in self._arrays

    def __repr__(self) -> str:
        return f"WeightsFile({self.path!r}, {self.format!r}, {len(self)} arrays)"

    def __enter__(self) -> WeightsFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; shapes and dtypes stay available."""
        self._source.file.close()


def _widen(array: np.ndarray) -> np.ndarray:
    """Convert bfloat16, the upper half of a float32, to float32."""
    bits = array["bfloat16"].astype(np.uint32)
    bits <<= 16
    return bits.view(np.float32)


def open_weights(path: str | os.PathLike[str]) -> WeightsFile:
    """Open a weights file; its first bytes determine the format, its name does not matter.

    Supported are MXNet's ``.params`` as Gluon and Module write them (their prefixes ``arg:`` and
    ``aux:`` are removed), ``.safetensors``, and PyTorch's ``.pth`` and ``.pt``, both the zip format
    and the older one. PyTorch is not needed, and no code in the file is executed. In a checkpoint
    that holds more than weights, the state dict is searched; averaged (EMA) weights take
    precedence, as in timm.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    WeightsFile
        A mapping from names to arrays.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError
        If the file does not exist, is a folder, or is not readable.
    ValueError
        If the file is truncated, damaged or hostile, its format is unknown, or it holds anything
        but dense arrays.

    Examples
    --------
    >>> import tempfile, mxnet as mx
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     mx.nd.save(file.name, {"output.bias": mx.nd.arange(3)})
    ...     with open_weights(file.name) as weights:
    ...         print(weights.format, weights.shapes, weights["output.bias"])
    mxnet {'output.bias': (3,)} [0. 1. 2.]
    """
    name = os.fspath(path)
    with contextlib.ExitStack() as on_error:
        source = Source(on_error.enter_context(_open(name)))
        try:
            format, read_index = _recognize(source.peek(_START, 0))
            index = read_index(source)
        except BadFile as error:
            raise ValueError(f"{name} {error}") from None
        on_error.pop_all()
        return WeightsFile(source, format, index)


def _open(name: str) -> BinaryIO:
    try:
        mode = os.stat(name).st_mode
        if stat.S_ISREG(mode):
            return open(name, "rb")
    except FileNotFoundError:
        raise FileNotFoundError(f"no weights file {name}; check the path") from None
    except PermissionError:
        raise PermissionError(f"{name} is not readable; check its permissions") from None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{name} is a folder; name the weights file itself")
    raise ValueError(f"{name} is not a regular file; copy its content to one")


_Reader = Callable[[Source], Index]


def _recognize(start: bytes) -> tuple[str, _Reader]:
    """Return the name of the format and its reader."""
    if len(start) < 16:
        raise BadFile(f"is empty or truncated: it has only {len(start)} bytes; get it again")
    if start.startswith(mxnet_file.MAGIC):
        return "mxnet", mxnet_file.read_index
    if start.startswith(torch_file.ZIP_MAGIC):
        return "torch", torch_file.read_zip
    if torch_file.LEGACY_MAGIC.match(start):
        return "torch", torch_file.read_legacy
    if safetensors_file.is_safetensors(start):
        return "safetensors", safetensors_file.read_index
    raise BadFile(_describe(start))


def _describe(start: bytes) -> str:
    """Describe a file that is not a weights file, by its first bytes."""
    text = start.lstrip().lower()
    for magic, description in _OTHER_FORMATS:
        if start.startswith(magic) or text.startswith(magic):
            return description
    if start[257:262] == b"ustar":
        return f"is a tar archive; unpack it, or if PyTorch before 0.2 wrote it, {_WITH_TORCH}"
    return (
        f"is not a weights file: it begins with {start[:8].hex()}, and not as MXNet's .params,"
        " safetensors or PyTorch's files do; check which file this is"
    )


_WITH_TORCH = f"load it with torch and {SAVE_AGAIN}"
_PAGE = "is a web page, not weights: the URL does not serve the file; download it elsewhere"
_OTHER_FORMATS = (
    (b"version https://git-lfs", "is a git-lfs pointer to the weights; run: git lfs pull"),
    (b"<!doctype html", _PAGE),
    (b"<html", _PAGE),
    (b"<?xml", _PAGE),  # the error page of a storage bucket
    (b"\x1f\x8b", "is gzipped; unpack it with gunzip"),
    (b"\x80", f"is a pickle that torch.save did not write; if you trust it, {_WITH_TORCH}"),
    (b"\x93NUMPY", "is one NumPy array without a name; save a dict of arrays with safetensors"),
    (b"\x89HDF", "is an HDF5 file, such as Keras writes; save its arrays with safetensors"),
    (b"{", "is JSON, such as MXNet's -symbol.json; the weights are in the .params file"),
)
