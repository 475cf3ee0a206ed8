# SPDX-License-Identifier: Apache-2.0
"""PyTorch's files, read without PyTorch: the zip format of 1.6 and later, and the older one."""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from functools import lru_cache
from typing import Any, Optional

from ..tensor_index import BadFile, Index, Source, StoredArray, count_elements, quote, strided_size
from .globals import SAVE_AGAIN, Storage, Tensor
from .pickle import Loaded, load
from .state_dict import find_state_dict

ZIP_MAGIC = b"PK\x03\x04"
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # magic, sizes of the name and of the extra field
_ENCRYPTED, _UTF_8 = 0x1, 0x800  # flags

# The pickle of a magic number, in any protocol.
LEGACY_MAGIC = re.compile(
    rb"\x80[\x02-\x05](\x95.{8})?\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19\.", re.DOTALL
)
_LEGACY_PROTOCOL = 1001

# DenseNet-121's pickle has 120 KiB, its central directory 70 KiB. Objects can take 70 times the
# memory of the pickle that describes them.
_MAX_PICKLE = _MAX_DIRECTORY = 4 << 20
_MAX_END = 1 << 17  # twice the longest comment
_USUAL_PICKLES = 1 << 19  # all five of the older format

# Offset and size of a storage in the file.
Record = tuple[int, int]


def read_zip(source: Source) -> Index:
    """Index a file of ``torch.save`` in the zip format."""
    entries = _read_directory(source)
    root = _root(entries)
    if f"{root}constants.pkl" in entries:
        raise BadFile(f"is a TorchScript program; load it with torch.jit.load and {SAVE_AGAIN}")
    byteorder = entries.get(f"{root}byteorder")
    if byteorder is not None and _read_entry(source, byteorder) != b"little":
        raise BadFile(f"was written by a big-endian machine; load it with torch and {SAVE_AGAIN}")
    index = entries[f"{root}data.pkl"]
    tensors = find_state_dict(load(io.BytesIO(_read_entry(source, index))).value)
    records = {"": _locate_entry(source, index)}  # no record has an empty key
    for key in dict.fromkeys(tensor.storage.key for tensor in tensors.values()):
        name = f"{root}data/{key}"
        if name not in entries:
            raise BadFile(f"is damaged: it has no record {quote(name)}; get it again")
        records[key] = _locate_entry(source, entries[name])
    _check_overlap(records)
    return Index(_stored_arrays(tensors, records))


class _DirectoryFile(io.BufferedReader):
    """A file that refuses to read a central directory of gigabytes."""

    def read(self, size: Optional[int] = -1) -> bytes:
        if size is None or size < 0:  # the end of the file, with the archive's comment
            size = _MAX_END
        if size > _MAX_DIRECTORY:
            raise zipfile.BadZipFile(f"a directory of {size} bytes")
        return super().read(size)


def _read_directory(source: Source) -> dict[str, zipfile.ZipInfo]:
    """Read the central directory of a zip archive; nothing else of it is checked yet."""
    try:
        raw = io.FileIO(source.file.fileno(), closefd=False)
        with zipfile.ZipFile(_DirectoryFile(raw)) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, OSError,
            struct.error):  # fmt: skip
        raise BadFile(
            f"is truncated or damaged: it has {source.size} bytes and no valid zip directory at its"
            " end; get it again"
        ) from None
    entries: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.filename
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
            raise BadFile(f"is hostile: its entry {quote(name)} leaves the archive; delete it")
        if name in entries:
            raise BadFile(f"has two entries of the name {quote(name)}; get it again")
        entries[name] = info
    return entries


def _root(entries: dict[str, zipfile.ZipInfo]) -> str:
    """Return the folder of all entries, with a slash."""
    roots = [name[:-8] for name in entries if name.endswith("data.pkl") and name.count("/") == 1]
    if len(roots) == 1:
        return roots[0]
    names = ", ".join(map(quote, list(entries)[:3]))
    raise BadFile(f"is a zip archive (of {names}) that torch.save did not write; unpack it first")


def _locate_entry(source: Source, info: zipfile.ZipInfo) -> Record:
    """Find the bytes of an entry, and check what the directory says against its local header."""
    name = quote(info.filename)
    if info.flag_bits & _ENCRYPTED:
        raise BadFile(f"is encrypted (its entry {name}); decrypt it first")
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        raise BadFile(f"is compressed (its entry {name}), unlike torch's files; {SAVE_AGAIN}")
    encoded = info.orig_filename.encode("utf-8" if info.flag_bits & _UTF_8 else "cp437")
    header = source.read(_LOCAL_HEADER.size + len(encoded), info.header_offset)
    magic, name_size, extra_size = _LOCAL_HEADER.unpack_from(header)
    if magic != ZIP_MAGIC or name_size != len(encoded) or not header.endswith(encoded):
        raise BadFile(f"is damaged: its entry {name} is not where it should be; get it again")
    offset = info.header_offset + len(header) + extra_size
    if offset + info.file_size > source.size:
        raise source.truncated()
    return offset, info.file_size


def _read_entry(source: Source, info: zipfile.ZipInfo) -> bytes:
    offset, size = _locate_entry(source, info)
    if size > _MAX_PICKLE:
        raise BadFile(f"has an index of {size >> 20} MiB, too long for weights; {SAVE_AGAIN}")
    content = source.read(size, offset)
    if zlib.crc32(content) != info.CRC:
        raise BadFile("is damaged: its index has a wrong checksum; get it again")
    return content


def _check_overlap(records: dict[str, Record]) -> None:
    """Refuse an archive whose entries share bytes: a small file could announce much data."""
    ordered = sorted(records.values())
    for (offset, size), (following, _) in zip(ordered, ordered[1:]):
        if offset + size > following:
            raise BadFile(f"is hostile: its entries overlap at byte {following}; delete it")


def read_legacy(source: Source) -> Index:
    """Index a file of PyTorch before 1.6, or one that was saved without the zip format."""
    (_, protocol, system, content, keys), end = _read_legacy_pickles(source)
    if protocol.value != _LEGACY_PROTOCOL or type(system.value) is not dict:
        raise BadFile("is damaged, or of an unknown version of PyTorch's format; get it again")
    if system.value.get("little_endian") is not True:
        raise BadFile(f"was written by a big-endian machine; load it with torch and {SAVE_AGAIN}")
    tensors = find_state_dict(content.value)
    records = _legacy_records(source, end, keys.value, content.storages)
    return Index(_stored_arrays(tensors, records))


def _read_legacy_pickles(source: Source) -> tuple[list[Loaded], int]:
    """Interpret the five pickles at the start, whose length is not stored; return the end too."""
    for size in (_USUAL_PICKLES, _MAX_PICKLE):
        start = io.BytesIO(source.peek(size, 0))
        try:
            return [load(start) for _ in range(5)], start.tell()
        except BadFile:
            if size >= min(source.size, _MAX_PICKLE):
                raise
    raise AssertionError("the last size returns or raises")


def _legacy_records(
    source: Source, at: int, keys: Any, storages: dict[str, Storage]
) -> dict[str, Record]:
    """Find the records, which follow the pickles: the number of elements, then the elements."""
    records = {}
    for key in keys if type(keys) is list else ():
        if type(key) is not str or key not in storages:
            raise BadFile("is damaged: it has a record that its index does not name; get it again")
        size = storages[key].record_size
        (count,) = struct.unpack("<q", source.read(8, at))
        if count * storages[key].dtype.itemsize != size:
            name = quote(key)
            raise BadFile(f"is damaged: the size of its record {name} is wrong; get it again")
        records[key] = at + 8, size
        at += 8 + size
    if at > source.size:
        raise source.truncated()
    return records


def _stored_arrays(
    tensors: dict[str, Tensor], records: dict[str, Record]
) -> dict[str, StoredArray]:
    arrays = {}
    for key, tensor in tensors.items():
        try:
            arrays[key] = _locate_tensor(tensor, records[tensor.storage.key])
        except (BadFile, KeyError, TypeError) as error:
            reason = error if type(error) is BadFile else "is invalid; get it again"
            raise BadFile(f"is not trustworthy: its tensor {quote(key)} {reason}") from None
    return arrays


def _locate_tensor(tensor: Tensor, record: Record) -> StoredArray:
    """Find a tensor in the file, checking everything that the pickle says of it."""
    (dtype, _, record_size, start, size), first, shape, strides = tensor
    shape, strides = tuple(shape), tuple(strides)
    if set(map(type, (first, start, size, *shape, *strides))) != {int}:
        raise TypeError
    if record_size != record[1]:
        raise BadFile("has a storage of another size than announced; get it again")
    if start < 0 or start + size > record_size:
        raise BadFile("has a storage beyond the end of its record; get it again")
    capacity = size // dtype.itemsize
    count, extent, strides_or_none = _extent(shape, strides)
    if count > capacity:
        raise BadFile(f"has {count} elements, its storage only {capacity}; save it .contiguous()")
    if first < 0:
        raise BadFile("has strides that do not fit its shape; get it again")
    if first + extent > capacity:
        raise BadFile("extends beyond its storage; get it again")
    return StoredArray(record[0] + start + first * dtype.itemsize, dtype, shape, strides_or_none)


@lru_cache(maxsize=1024)  # the tensors of a network share few shapes
def _extent(
    shape: tuple[int, ...], strides: tuple[int, ...]
) -> tuple[int, int, Optional[tuple[int, ...]]]:
    """Count a tensor's elements and those of the storage it spans; strides if not contiguous."""
    count = count_elements(shape)
    if len(strides) != len(shape) or min(strides, default=0) < 0:
        raise BadFile("has strides that do not fit its shape; get it again")
    if not count or _is_contiguous(shape, strides):
        return count, count, None
    return count, strided_size(shape, strides), strides


def _is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True
