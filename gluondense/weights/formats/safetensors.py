# SPDX-License-Identifier: Apache-2.0
"""Safetensors files; the safetensors library parses and checks their headers."""

from __future__ import annotations

import struct

from safetensors import SafetensorError, safe_open

from .tensor_index import DTYPES, BadFile, Index, Source, StoredArray, count_elements, quote

_KINDS = {"F": "float", "BF": "bfloat", "I": "int", "U": "uint"}
_DTYPES = {
    f"{code}{bits}": DTYPES[f"{kind}{bits}"]
    for code, kind in _KINDS.items()
    for bits in (8, 16, 32, 64)
    if f"{kind}{bits}" in DTYPES
}
_DTYPES["BOOL"] = DTYPES["bool"]


def is_safetensors(start: bytes) -> bool:
    """Recognize the format by its first bytes: the header's size (8 bytes), then JSON."""
    return start[8:9] == b"{"


def read_index(source: Source) -> Index:
    """Index a safetensors file."""
    try:
        with safe_open(source.path, framework="numpy") as content:
            # The library has checked that the arrays are contiguous in this order, without gaps.
            slices = [(key, content.get_slice(key)) for key in content.offset_keys()]
            described = [(key, part.get_dtype(), tuple(part.get_shape())) for key, part in slices]
            metadata = dict(content.metadata() or {})
    except SafetensorError as error:
        reason = quote(str(error))
        raise BadFile(f"is not a valid safetensors file ({reason}); get it again") from None
    (size,) = struct.unpack("<Q", source.read(8, 0))
    offset = 8 + size
    arrays = {}
    for key, code, shape in described:
        if code not in _DTYPES:
            raise BadFile(f"holds {quote(key)} in the type {code}; save it as float32")
        array = arrays[key] = StoredArray(offset, _DTYPES[code], shape)
        offset += count_elements(shape) * array.dtype.itemsize
    return Index(arrays, metadata)
