"""Open the files that weights come in, whoever wrote them."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO, Callable

import numpy as np

from . import mxnet as mxnet_file
from . import safetensors as safetensors_file
from .tensor_index import BadFile, Index, Source, StoredArray, reach
from .torch import file as torch_file
from .torch.globals import SAVE_AGAIN

# Enough to tell every format; a tar archive says what it is at byte 257.
_START = 512


class WeightsFile(Mapping[str, np.ndarray]):
    """The arrays of a file by their names in it, each read when it is asked for, and not kept.

    bfloat16 becomes float32; everything else keeps its type. It is made by :func:`open_weights`,
    and closes the file at the end of a ``with`` statement.

    Attributes
    ----------
    path, format, style
        The file; ``"mxnet"``, ``"safetensors"`` or ``"torch"``; the variant of it: ``"gluon"`` or
        ``"module"``, ``"zip"`` or ``"legacy"``.
    shapes, dtypes
        Of every array, by name.
    metadata
        What the header of a safetensors file says in words.
    notes
        Where the names differ from those in the file and what was chosen in it, a line each.
    """

    def __init__(self, source: Source, format: str, index: Index) -> None:
        self.path = source.path
        self.format = format
        self.style = index.style
        self.metadata = index.metadata
        self.notes = index.notes
        self.shapes = {key: array.shape for key, array in index.arrays.items()}
        self.dtypes = {
            key: np.dtype(np.float32) if array.bfloat16 else array.dtype
            for key, array in index.arrays.items()
        }
        self._arrays = index.arrays
        self._source = source

    def __getitem__(self, key: str) -> np.ndarray:
        stored = self._arrays[key]
        if stored.strides is None:
            array = np.empty(stored.shape, stored.dtype)
            self._fill([(stored.offset, array)])
        else:
            array = self._gather(stored, stored.strides)
        return _widen(array) if stored.bfloat16 else array

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
        """Close the file; what is known without its values stays known."""
        self._source.file.close()

    def read_into(self, key: str, out: np.ndarray) -> None:
        """Read an array into memory that is there; straight from the file if the types agree.

        Parameters
        ----------
        key
            Name of the array.
        out
            Gets the values; of the same shape.

        Raises
        ------
        ValueError
            If the shapes differ, or ``out`` can't hold numbers of that kind.
        """
        self.read_all_into([(key, out)])

    def read_all_into(self, pairs: Iterable[tuple[str, np.ndarray]]) -> None:
        """Do :meth:`read_into` for many, in the file's order and with few calls."""
        rows = []
        for key, out in pairs:
            stored = self._arrays[key]
            if out.shape != stored.shape:
                raise ValueError(f"{self.path}: {key} is {stored.shape}, not {out.shape} as out is")
            direct = stored.strides is None and not stored.bfloat16 and out.dtype == stored.dtype
            if direct and out.flags.c_contiguous:
                rows.append((stored.offset, out))
            elif np.can_cast(self.dtypes[key], out.dtype, "same_kind"):
                out[...] = self[key]
            else:
                types = f"{self.dtypes[key]}, and out is {out.dtype}"
                raise ValueError(f"{self.path}: {key} is {types}")
        self._fill(rows)

    def _gather(self, stored: StoredArray, strides: tuple[int, ...]) -> np.ndarray:
        storage = np.empty(reach(stored.shape, strides), stored.dtype)
        self._fill([(stored.offset, storage)])
        in_bytes = [stride * storage.itemsize for stride in strides]
        # Whoever made the index has checked that this stays within the storage.
        view = np.lib.stride_tricks.as_strided(storage, stored.shape, in_bytes, writeable=False)
        return np.array(view, order="C")

    def _fill(self, rows: list[tuple[int, np.ndarray]]) -> None:
        if self._source.file.closed:
            raise ValueError(f"{self.path} is closed; read it inside of its with statement")
        self._source.fill(rows)


def _widen(array: np.ndarray) -> np.ndarray:
    """Make float32 of the bytes of bfloat16, which are the upper half of it."""
    bits = array.astype(np.uint32)
    bits <<= 16
    return bits.view(np.float32)


def open_weights(path: str | os.PathLike[str]) -> WeightsFile:
    """Open a file of weights; its first bytes tell the format, whatever its name.

    MXNet's ``.params``, as Gluon and as Module write them (whose ``arg:`` and ``aux:`` are left
    off), ``.safetensors``, and PyTorch's ``.pth`` and ``.pt`` in the zip format and the older one,
    for which PyTorch is not needed, and no code in the file is run. Of a checkpoint with more in it
    the state dict is found, and its averaged weights are preferred, as timm does; ``notes`` say so.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    WeightsFile
        Its arrays by name, each read from the file when it is asked for.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError
        If it is not there, is a folder, or may not be read.
    ValueError
        If it is truncated, damaged or hostile, is of no known format, or holds other things than
        dense arrays.

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
            format, read_index = _recognize(os.pread(source.number, _START, 0))
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
        raise PermissionError(f"{name} may not be read; check its permissions") from None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{name} is a folder; name the weights file itself")
    raise ValueError(f"{name} is no ordinary file; copy its content to one")


_Reader = Callable[[Source], Index]


def _recognize(start: bytes) -> tuple[str, _Reader]:
    """Name the format of a file with these first bytes, and what reads it."""
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
    """Say what else a file with these first bytes is."""
    text = start.lstrip().lower()
    for magic, what in _OTHERS:
        if start.startswith(magic) or text.startswith(magic):
            return what
    if start[257:262] == b"ustar":
        return f"is a tar archive; unpack it, or if it is PyTorch's, of before 0.2, {_WITH_TORCH}"
    return (
        f"is no weights file: it begins with {start[:8].hex()}, not as MXNet's .params, safetensors"
        " or PyTorch's files do; check which file this is"
    )


_WITH_TORCH = f"load it with torch and {SAVE_AGAIN}"
_PAGE = "is a web page, not weights: its address gave no file; get it elsewhere"
_OTHERS = (
    (b"version https://git-lfs", "is a pointer of git-lfs to the weights; run: git lfs pull"),
    (b"<!doctype html", _PAGE),
    (b"<html", _PAGE),
    (b"<?xml", _PAGE),  # what a bucket answers
    (b"\x1f\x8b", "is gzipped; unpack it with gunzip"),
    (b"\x80", f"is a pickle, but not one of torch.save; if you trust it, {_WITH_TORCH}"),
    (b"\x93NUMPY", "is one NumPy array without a name; save a dict of arrays with safetensors"),
    (b"\x89HDF", "is an HDF5 file, as of Keras; save its arrays with safetensors"),
    (b"{", "is JSON, such as MXNet's -symbol.json; the weights are in the .params file"),
)
