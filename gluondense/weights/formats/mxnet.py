# SPDX-License-Identifier: Apache-2.0
"""MXNet's ``.params`` files, as Gluon and Module write them."""

from __future__ import annotations

import struct
from collections import Counter

from .tensor_index import (
    DTYPES,
    MAX_DIMENSIONS,
    BadFile,
    Index,
    Source,
    StoredArray,
    count_elements,
    quote,
)

MAGIC = struct.pack("<QQ", 0x112, 0)

# The first word of an array; files of MXNet 0.x have the number of dimensions there.
_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_LONGEST_HEADER = 4 + 4 + 4 + 8 * MAX_DIMENSIONS + 8 + 4

_SPARSE = {1: "row-sparse", 2: "compressed sparse row"}
# In the order of mshadow's type flags.
_DTYPES = tuple(
    DTYPES[name]
    for name in (
        "float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool", "int16",
        "uint16", "uint32", "uint64", "bfloat16",
    )
)  # fmt: skip


def read_index(source: Source) -> Index:
    """Index a file; remove the prefixes ``arg:`` and ``aux:`` of Module and Gluon's exports."""
    count, at = _read_count(source, len(MAGIC))
    arrays = []
    for _ in range(count):
        array, at = _read_array(source, at)
        arrays.append(array)
    names, at = _read_names(source, at)
    if at != source.size:
        raise BadFile(f"has {source.size - at} bytes after its end; get it again")
    if arrays and not names:
        raise BadFile("holds arrays without names; save a dict: mx.nd.save(path, {name: ...})")
    if len(names) != len(arrays):
        raise BadFile(f"has {len(arrays)} arrays but {len(names)} names; get it again")
    keys = [name[4:] if name.startswith(("arg:", "aux:")) else name for name in names]
    index = Index(dict(zip(keys, arrays)))
    if len(index.arrays) < len(keys):
        ((duplicate, _),) = Counter(keys).most_common(1)
        raise BadFile(f"has two arrays of the name {quote(duplicate)}; get it again")
    return index


def _read_count(source: Source, at: int) -> tuple[int, int]:
    return struct.unpack("<Q", source.read(8, at))[0], at + 8


def _read_names(source: Source, at: int) -> tuple[list[str], int]:
    count, at = _read_count(source, at)
    content = source.read(source.size - at, at)
    names = []
    end = 0
    try:
        for _ in range(count):
            (size,) = struct.unpack_from("<Q", content, end)
            end += 8 + size
            if end > len(content):
                raise source.truncated()
            names.append(content[end - size : end].decode())
    except struct.error:
        raise source.truncated() from None
    except UnicodeDecodeError:
        raise BadFile("has names that are not UTF-8; get it again") from None
    return names, at + end


def _read_array(source: Source, at: int) -> tuple[StoredArray, int]:
    """Parse the header of an array; return the array and the offset after its values."""
    header = source.peek(_LONGEST_HEADER, at)
    try:
        shape, end = _parse_shape(header)
        (code,) = struct.unpack_from("<i", header, end + 8)  # skips the 8 bytes of the context
    except struct.error:
        raise source.truncated() from None
    if not 0 <= code < len(_DTYPES):
        raise BadFile(f"holds an array of the unknown type {code}; get it again")
    array = StoredArray(at + end + 12, _DTYPES[code], shape)
    end = array.offset + count_elements(shape) * array.dtype.itemsize
    if end > source.size:
        raise source.truncated()
    return array, end


def _parse_shape(header: bytes) -> tuple[tuple[int, ...], int]:
    """Return the shape and the offset after it in the header."""
    (magic,) = struct.unpack_from("<I", header)
    at = 4
    if magic in (_V2, _V3):
        (storage,) = struct.unpack_from("<i", header, at)
        if storage != 0:
            kind = _SPARSE.get(storage, "unknown")
            advice = 'make it dense: array.tostype("default")'
            raise BadFile(f"holds an array of {kind} storage; {advice}")
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
    sizes = struct.Struct(f"<{dimensions}{'q' if magic in (_V1, _V2, _V3) else 'I'}")
    return sizes.unpack_from(header, at), at + sizes.size
