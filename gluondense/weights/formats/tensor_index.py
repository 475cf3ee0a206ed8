# SPDX-License-Identifier: Apache-2.0
"""The tensor index: which arrays a weights file holds and at which offsets.

Every reader returns an :class:`Index`, or raises :class:`BadFile` if the file is truncated, damaged
or hostile, or holds anything but named dense arrays. :class:`~.open.WeightsFile` reads the values.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple, Optional

import numpy as np

MAX_DIMENSIONS = 32  # the limit of NumPy 1
_MAX_ELEMENTS = 2**59

# NumPy has no bfloat16; this is also MXNet's dtype for it. Values are widened to float32.
BFLOAT16 = np.dtype([("bfloat16", "<u2")])
_NUMBERS = (
    "float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32",
    "uint16", "uint8",
)  # fmt: skip
DTYPES: dict[str, np.dtype] = {
    **{name: np.dtype(name).newbyteorder("<") for name in _NUMBERS},
    "bfloat16": BFLOAT16,
    "bool": np.dtype("?"),
}


class BadFile(ValueError):
    """A defect of a file and its remedy, as a predicate; ``open_weights`` prepends the path."""


class Source:
    """An open file of known size, read at any offset; threads can share it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.path = file.name
        self.size = os.fstat(file.fileno()).st_size

    def peek(self, size: int, offset: int) -> bytes:
        """Read at most ``size`` bytes; the end of the file may cut them short."""
        return os.pread(self.file.fileno(), size, offset)

    def read(self, size: int, offset: int) -> bytes:
        """Read exactly ``size`` bytes; raise :class:`BadFile` if the file has fewer."""
        if offset < 0 or offset + size > self.size:
            raise self.truncated()
        return self.peek(size, offset)

    def read_array(self, offset: int, array: np.ndarray) -> np.ndarray:
        """Fill a contiguous array with the bytes from an offset on, and return it."""
        if self.file.closed:
            raise ValueError(f"{self.path} is closed; read it inside its with statement")
        rest = array.reshape(-1).view(np.uint8).data
        while rest:
            count = os.preadv(self.file.fileno(), [rest], offset)  # Linux reads at most 2 GiB
            if count == 0:
                raise ValueError(f"{self.path} became shorter while it was read; get it again")
            rest, offset = rest[count:], offset + count
        return array

    def truncated(self) -> BadFile:
        """Return the error for a file that is shorter than its content says."""
        return BadFile(f"is truncated or damaged: it has only {self.size} bytes; get it again")


class StoredArray(NamedTuple):
    """An array in a file; the reader has checked that it is inside the file.

    ``offset`` is that of the first element, in bytes from the start of the file; ``dtype`` is one
    of ``DTYPES``; ``strides`` are in elements, None for a contiguous array.
    """

    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]
    strides: Optional[tuple[int, ...]] = None


@dataclass(frozen=True)
class Index:
    """The content of a file: its arrays by key, in the file's order, and its header's metadata."""

    arrays: dict[str, StoredArray]
    metadata: dict[str, str] = field(default_factory=dict)


def quote(name: object) -> str:
    """Quote a name from a file on one line of at most 100 characters."""
    text = ascii(name)
    return text if len(text) <= 100 else f"{text[:97]}..."


def count_elements(shape: tuple[int, ...]) -> int:
    """Count the elements of an array; raise :class:`BadFile` for a shape that NumPy refuses."""
    # NumPy also refuses large dimensions beside a 0, which leaves nothing to store.
    largest = math.prod(size or 1 for size in shape)
    if len(shape) > MAX_DIMENSIONS or min(shape, default=0) < 0 or largest > _MAX_ELEMENTS:
        raise BadFile(f"announces an array of the shape {str(shape)[:100]}; get it again")
    return math.prod(shape)


def strided_size(shape: Sequence[int], strides: Sequence[int]) -> int:
    """Count the elements from the first to the last of a non-empty strided array, inclusive."""
    return 1 + sum((size - 1) * stride for size, stride in zip(shape, strides))
