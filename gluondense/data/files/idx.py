# SPDX-License-Identifier: Apache-2.0
"""Read the idx format of the MNIST family: a header with dtype and shape, then the values."""

from __future__ import annotations

import gzip
import math
import struct
import zlib

import numpy as np

GZIP_MAGIC = b"\x1f\x8b"

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def unpack(content: bytes, name: str) -> bytes:
    """Decompress gzipped content; ``name`` stands for the file in error messages."""
    if not content.startswith(GZIP_MAGIC):
        return content
    try:
        return gzip.decompress(content)
    except EOFError:
        raise ValueError(f"{name} is truncated: its gzip stream ends early; get it again") from None
    except (OSError, zlib.error) as error:
        raise ValueError(f"{name} is corrupt ({error}); get it again") from None


def parse_idx(content: bytes, name: str) -> np.ndarray:
    """Parse the content of an idx file; ``name`` stands for the file in error messages.

    Examples
    --------
    >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]), "labels").tolist()
    [7, 8, 9]
    """
    if len(content) < 4:
        raise ValueError(f"{name} is truncated: it has only {len(content)} bytes; get it again")
    zero, code, dimensions = struct.unpack_from(">HBB", content)
    if zero != 0 or code not in _DTYPES or dimensions == 0:
        raise ValueError(
            f"{name} is not an idx file: it begins with {content[:4].hex()}, not with"
            " 00000801 (labels) or 00000803 (images); check which file this is"
        )
    offset = 4 + 4 * dimensions
    if len(content) < offset:
        raise ValueError(f"{name} is truncated: it ends within its header; get it again")
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    dtype = np.dtype(_DTYPES[code])
    expected = offset + dtype.itemsize * math.prod(shape)
    if len(content) != expected:
        what = "truncated" if len(content) < expected else "too long"
        raise ValueError(
            f"{name} is {what}: its header announces {expected} bytes, it has {len(content)};"
            " get it again"
        )
    array = np.frombuffer(content, dtype, offset=offset).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)
