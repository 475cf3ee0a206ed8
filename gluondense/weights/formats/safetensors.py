"""Safetensors files, whose headers the library of that name checks."""

from __future__ import annotations

import struct

import numpy as np
from safetensors import SafetensorError, safe_open

from .tensor_index import BadFile, Index, Source, StoredArray, count_elements, shown

_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}


def is_safetensors(start: bytes) -> bool:
    """Tell it from the first bytes: the size of a header, and the header's first."""
    return start[8:9] == b"{"


def read_index(source: Source) -> Index:
    """Find the arrays of a safetensors file.

    Raises
    ------
    BadFile
        If it is truncated or damaged, or has a type of numbers that NumPy has not.
    """
    try:
        with safe_open(source.path, framework="numpy") as content:
            # Arrays follow each other without a gap, in this order: the library has checked that.
            slices = [(key, content.get_slice(key)) for key in content.offset_keys()]
            described = [(key, part.get_dtype(), tuple(part.get_shape())) for key, part in slices]
            metadata = dict(content.metadata() or {})
    except SafetensorError as error:
        reason = shown(str(error))
        raise BadFile(f"is no sound safetensors file ({reason}); get it again") from None
    (size,) = struct.unpack("<Q", source.read(8, 0))
    offset = 8 + size
    arrays = {}
    for key, code, shape in described:
        if code not in _DTYPES:
            raise BadFile(f"holds {shown(key)} in the type {code}; save it as float32")
        array = StoredArray(offset, np.dtype(_DTYPES[code]), shape, bfloat16=code == "BF16")
        offset += count_elements(shape) * array.dtype.itemsize
        arrays[key] = array
    return Index(arrays, metadata=metadata)
