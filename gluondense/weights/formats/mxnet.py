"""MXNet's ``.params`` files, as Gluon and as Module write them."""

from __future__ import annotations

import os
import struct
from collections import Counter

import numpy as np

from .tensor_index import MAX_DIMENSIONS, BadFile, Index, Source, StoredArray, count_elements, shown

MAGIC = struct.pack("<QQ", 0x112, 0)

# What an array begins with; in the files of MXNet 0.x it is the number of dimensions instead.
_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_LONGEST_HEADER = 4 + 4 + 4 + 8 * MAX_DIMENSIONS + 8 + 4

_SPARSE = {1: "row-sparse", 2: "compressed sparse row"}
# By their numbers in mshadow; the last one is bfloat16.
_CODES = ("<f4", "<f8", "<f2", "u1", "<i4", "i1", "<i8", "?", "<i2", "<u2", "<u4", "<u8", "<u2")
_DTYPES = tuple(map(np.dtype, _CODES))
_BFLOAT16 = 12


def read_index(source: Source) -> Index:
    """Find the arrays of a ``.params`` file.

    The prefixes ``arg:`` and ``aux:`` of the files of Module, and of Gluon's exports, are left off;
    ``style`` is ``"module"`` then, else ``"gluon"``.

    Raises
    ------
    BadFile
        If it is truncated or damaged, or holds other things than dense arrays with names.
    """
    count, at = _read_count(source, len(MAGIC))
    arrays = []
    for _ in range(count):
        array, at = _read_array(source, at)
        arrays.append(array)
    names, at = _read_names(source, at)
    if at != source.size:
        raise BadFile(f"goes on for {source.size - at} bytes after its end; get it again")
    if arrays and not names:
        raise BadFile("holds arrays without names; save a dict: mx.nd.save(path, {name: ...})")
    if len(names) != len(arrays):
        raise BadFile(f"has {len(arrays)} arrays but {len(names)} names; get it again")
    keys = [name[4:] if name.startswith(("arg:", "aux:")) else name for name in names]
    found = dict(zip(keys, arrays))
    if len(found) < len(keys):
        ((twice, _),) = Counter(keys).most_common(1)
        raise BadFile(f"has two arrays of the name {shown(twice)}; get it again")
    return Index(found, style="gluon" if keys == names else "module")


def _read_count(source: Source, at: int) -> tuple[int, int]:
    return struct.unpack("<Q", source.read(8, at))[0], at + 8


def _read_names(source: Source, at: int) -> tuple[list[str], int]:
    count, at = _read_count(source, at)
    content = source.read(source.size - at, at)
    names = []
    place = 0
    try:
        for _ in range(count):
            (size,) = struct.unpack_from("<Q", content, place)
            place += 8 + size
            if place > len(content):
                raise source.truncated()
            names.append(content[place - size : place].decode())
    except struct.error:
        raise source.truncated() from None
    except UnicodeDecodeError:
        raise BadFile("has names that are no text; get it again") from None
    return names, at + place


def _read_array(source: Source, at: int) -> tuple[StoredArray, int]:
    """Parse the header of one array; the place returned is the one after its values."""
    header = os.pread(source.number, _LONGEST_HEADER, at)
    try:
        shape, end = _parse_shape(header)
        (code,) = struct.unpack_from("<i", header, end + 8)  # the 8 bytes are its device
    except struct.error:
        raise source.truncated() from None
    if not 0 <= code < len(_DTYPES):
        raise BadFile(f"holds an array of the unknown type {code}; get it again")
    offset = at + end + 12
    array = StoredArray(offset, _DTYPES[code], shape, bfloat16=code == _BFLOAT16)
    offset += count_elements(shape) * array.dtype.itemsize
    if offset > source.size:
        raise source.truncated()
    return array, offset


def _parse_shape(header: bytes) -> tuple[tuple[int, ...], int]:
    (magic,) = struct.unpack_from("<I", header)
    at = 4
    if magic in (_V2, _V3):
        (storage,) = struct.unpack_from("<i", header, at)
        if storage != 0:
            kind = _SPARSE.get(storage, "strange")
            raise BadFile(f'holds a {kind} array; make it dense: array.tostype("default")')
        at += 4
    if magic in (_V1, _V2, _V3):
        (dimensions,) = struct.unpack_from("<i", header, at)
        at += 4
    else:
        dimensions = magic
    if dimensions < 0 or (dimensions == 0 and magic != _V3):
        raise BadFile("holds an array without values; initialize the network before it is saved")
    if dimensions > MAX_DIMENSIONS:
        raise BadFile(f"announces an array of {dimensions} dimensions; get it again")
    layout = struct.Struct(f"<{dimensions}{'q' if magic in (_V1, _V2, _V3) else 'I'}")
    return layout.unpack_from(header, at), at + layout.size
