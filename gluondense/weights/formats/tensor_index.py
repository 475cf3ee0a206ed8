"""Where the arrays of a weights file lie in it; what every reader hands over."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import BinaryIO, NamedTuple, Optional

import numpy as np

# What every supported NumPy can hold.
MAX_DIMENSIONS = 32
_MAX_ELEMENTS = 2**59

# What is skipped rather than left to another call, and how many parts Linux reads in one.
_GAP, _MOST_PARTS = 4096, 1024


class BadFile(ValueError):
    """What is wrong with a file and what to do; ``open_weights`` puts the file's name before it."""


class Source:
    """An open file whose size is known, read at any place."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.path = file.name
        self.number = file.fileno()
        self.size = os.fstat(self.number).st_size

    def read(self, size: int, offset: int) -> bytes:
        """Read that many bytes from there; fewer are a :class:`BadFile`."""
        if offset < 0 or offset + size > self.size:
            raise self.truncated()
        return os.pread(self.number, size, offset)

    def fill(self, rows: Iterable[tuple[int, np.ndarray]]) -> None:
        """Read contiguous arrays from there on; what lies close together is read in one call."""
        gap = memoryview(bytearray(_GAP))
        parts: list[memoryview] = []
        start = end = 0
        for offset, array in sorted(rows, key=itemgetter(0)):
            if not array.size:
                continue
            if not 0 <= offset - end <= _GAP or len(parts) > _MOST_PARTS - 2:
                self._read_parts(parts, start)
                parts, start, end = [], offset, offset
            if offset > end:
                parts.append(gap[: offset - end])
            parts.append(array.data.cast("B"))
            end = offset + array.nbytes
        self._read_parts(parts, start)

    def _read_parts(self, parts: list[memoryview], at: int) -> None:
        while parts:
            done = os.preadv(self.number, parts, at)
            if done == 0:
                raise ValueError(f"{self.path} became shorter while it was read; get it again")
            at += done
            # Linux reads 2 GiB at a time.
            while parts and done >= len(parts[0]):
                done -= len(parts.pop(0))
            if done:
                parts[0] = parts[0][done:]

    def truncated(self) -> BadFile:
        """Make the error for a file that announces more than it has."""
        return BadFile(f"is truncated or damaged: it has only {self.size} bytes; get it again")


class StoredArray(NamedTuple):
    """One array that has been found in a file, and checked to lie inside of it.

    Parameters
    ----------
    offset
        Of its first element, in bytes from the beginning of the file.
    dtype
        Of the elements in the file; uint16 if they are bfloat16, which NumPy doesn't know.
    shape
        As the reader of the file shall see it.
    strides
        In elements; None if the array is contiguous.
    bfloat16
        Whether it has to be widened to float32.
    """

    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]
    strides: Optional[tuple[int, ...]] = None
    bfloat16: bool = False


@dataclass(frozen=True)
class Index:
    """What a file contains.

    Parameters
    ----------
    arrays
        By key, in the file's order.
    style
        The variant of the format.
    metadata
        What the file's header says in words.
    notes
        What was left out or renamed on the way from the file to ``arrays``, one sentence each.
    """

    arrays: dict[str, StoredArray]
    style: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def shown(name: object) -> str:
    """Print a name of a file's on one line, and not more than that."""
    text = ascii(name)
    return text if len(text) <= 100 else f"{text[:97]}..."


def count_elements(shape: tuple[int, ...]) -> int:
    """Count the elements of an array; a shape that no array can have is a :class:`BadFile`."""
    count = math.prod(shape)
    if len(shape) > MAX_DIMENSIONS or min(shape, default=0) < 0 or count > _MAX_ELEMENTS:
        raise BadFile(f"announces an array of the shape {str(shape)[:100]}; get it again")
    # NumPy refuses it even where a zero leaves nothing to store.
    if not count and math.prod(size or 1 for size in shape) > _MAX_ELEMENTS:
        raise BadFile(f"announces an array of the shape {str(shape)[:100]}; get it again")
    return count


def reach(shape: Sequence[int], strides: Sequence[int]) -> int:
    """Count the elements from the first one of an array that is not empty to its last."""
    return 1 + sum((size - 1) * stride for size, stride in zip(shape, strides))
