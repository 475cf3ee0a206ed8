"""PyTorch's files, in the zip format of 1.6 and later and in the one before, without PyTorch."""

from __future__ import annotations

import re
import struct
import zlib
from functools import lru_cache
from typing import Any, Optional

from ..tensor_index import BadFile, Index, Source, StoredArray, count_elements, reach, shown
from .globals import SAVE_AGAIN, Storage, Tensor
from .pickle import Loaded, load
from .state_dict import find_state_dict
from .zip_directory import Entry, read_table

ZIP_MAGIC = b"PK\x03\x04"
# Before the bytes of an entry; the sizes of a name and of a filler are what it is read for.
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_ENCRYPTED, _AS_IT_IS = 1, 0  # a flag, and a method of compression

# The pickle of a magic number, in any of the protocols.
LEGACY_MAGIC = re.compile(
    rb"\x80[\x02-\x05](\x95.{8})?\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19\.", re.DOTALL
)
_LEGACY_PROTOCOL = 1001

# A DenseNet's has 120 KiB. What a hostile one makes can take 70 times its own memory.
_LONGEST_PICKLE = 4 << 20
_USUAL_PICKLES = 1 << 19  # of an older file together

# Where a storage lies: its first byte, and how many there are.
Record = tuple[int, int]


def read_zip(source: Source) -> Index:
    """Find the arrays of a file of ``torch.save``.

    Raises
    ------
    BadFile
        If it is truncated, damaged or hostile, or is no file of weights.
    """
    entries = read_table(source)
    root = _root(entries)

    def content(name: str) -> bytes:
        return _content(source, name, entries[name])

    if f"{root}constants.pkl" in entries:
        raise BadFile(f"is a TorchScript program; load it with torch.jit.load and {SAVE_AGAIN}")
    if f"{root}byteorder" in entries and content(f"{root}byteorder") != b"little":
        raise BadFile(f"was written by a big-endian machine; load it with torch and {SAVE_AGAIN}")
    tensors, notes = find_state_dict(load(content(f"{root}data.pkl")).value)
    records: dict[str, Record] = {}
    # In the file's order: jumping about would keep the disk from reading ahead.
    for key in dict.fromkeys(tensor.storage.key for tensor in tensors.values()):
        name = f"{root}data/{key}"
        if name not in entries:
            raise BadFile(f"is damaged: it has no record {shown(name)}; get it again")
        records[key] = _record(source, name, entries[name])
    return Index(_stored(tensors, records), style="zip", notes=notes)


def read_legacy(source: Source) -> Index:
    """Find the arrays of a file of PyTorch before 1.6, or without its zip format.

    Raises
    ------
    BadFile
        If it is truncated, damaged or hostile, or is no file of weights.
    """
    _, protocol, system, content, keys = _legacy_pickles(source)
    if protocol.value != _LEGACY_PROTOCOL or type(system.value) is not dict:
        raise BadFile("is damaged, or of an unknown version of PyTorch's format; get it again")
    if system.value.get("little_endian") is not True:
        raise BadFile(f"was written by a big-endian machine; load it with torch and {SAVE_AGAIN}")
    tensors, notes = find_state_dict(content.value)
    records = _legacy_records(source, keys.end, keys.value, content.storages)
    return Index(_stored(tensors, records), style="legacy", notes=notes)


def _legacy_pickles(source: Source) -> list[Loaded]:
    """Interpret the five that the file begins with; nothing tells how long they are."""
    for size in (_USUAL_PICKLES, _LONGEST_PICKLE):
        code = source.read(min(size, source.size), 0)
        pickles = [load(code)]
        try:
            while len(pickles) < 5:
                pickles.append(load(code, pickles[-1].end))
            break
        except BadFile:
            if len(code) < size or size == _LONGEST_PICKLE:
                raise
    return pickles


def _legacy_records(
    source: Source, at: int, keys: Any, storages: dict[str, Storage]
) -> dict[str, Record]:
    """Find the records, which follow the pickles from ``at`` on: a count, then the numbers."""
    records = {}
    for key in keys if type(keys) is list else ():
        if type(key) is not str or key not in storages:
            raise BadFile("is damaged: it has a record that its index does not name; get it again")
        size = storages[key].record_size
        (count,) = struct.unpack("<q", source.read(8, at))
        if count * storages[key].element.dtype.itemsize != size:
            raise BadFile(f"is damaged: the size of its record {shown(key)} is wrong; get it again")
        records[key] = at + 8, size
        at += 8 + size
    if at > source.size:
        raise source.truncated()
    return records


def _root(entries: dict[str, Entry]) -> str:
    """Name the folder that everything lies in, with a slash."""
    roots = [name[:-8] for name in entries if name.endswith("data.pkl") and name.count("/") == 1]
    if len(roots) == 1:
        return roots[0]
    some = ", ".join(shown(name) for name in list(entries)[:3])
    raise BadFile(f"is a zip archive (of {some}) that torch.save did not write; unpack it first")


def _record(source: Source, name: str, entry: Entry) -> Record:
    flags, method, _, packed_size, size, at = entry
    if flags & _ENCRYPTED:
        raise BadFile(f"is encrypted (its entry {shown(name)}); decrypt it first")
    if method != _AS_IT_IS or packed_size != size:
        name = shown(name)
        raise BadFile(f"is compressed (its entry {name}), and torch's files are not; {SAVE_AGAIN}")
    header = source.read(_LOCAL_HEADER.size, at)
    magic, name_size, filler_size = _LOCAL_HEADER.unpack(header)
    if magic != ZIP_MAGIC:
        name = shown(name)
        raise BadFile(f"is damaged: its entry {name} is not where it should be; get it again")
    offset = at + _LOCAL_HEADER.size + name_size + filler_size
    if offset + size > source.size:
        raise source.truncated()
    return offset, size


def _content(source: Source, name: str, entry: Entry) -> bytes:
    offset, size = _record(source, name, entry)
    if size > _LONGEST_PICKLE:
        raise BadFile(f"has an index of {size >> 20} MiB, too long for weights; {SAVE_AGAIN}")
    content = source.read(size, offset)
    if zlib.crc32(content) != entry.checksum:
        raise BadFile("is damaged: its index has a wrong checksum; get it again")
    return content


def _stored(tensors: dict[str, Tensor], records: dict[str, Record]) -> dict[str, StoredArray]:
    arrays = {}
    for key, tensor in tensors.items():
        try:
            arrays[key] = _locate(tensor, records[tensor.storage.key])
        except (BadFile, KeyError, TypeError) as error:
            reason = error if type(error) is BadFile else "makes no sense; get it again"
            raise BadFile(f"can't be believed: its tensor {shown(key)} {reason}") from None
    return arrays


def _locate(tensor: Tensor, record: Record) -> StoredArray:
    """Find a tensor in the file; nothing that the pickle says of it is believed."""
    (element, _, record_size, start, size), first, shape, strides = tensor
    shape, strides = tuple(shape), tuple(strides)
    if set(map(type, (first, start, size, *shape, *strides))) != {int}:
        raise TypeError
    if record_size != record[1]:
        raise BadFile("has a storage of another size than announced; get it again")
    if start < 0 or start + size > record_size:
        raise BadFile("lies in a storage that reaches out of its record; get it again")
    item_size = element.dtype.itemsize
    capacity = size // item_size
    count, reached, apart = _extent(shape, strides)
    if count > capacity:
        raise BadFile(f"has {count} elements, its storage only {capacity}; save it .contiguous()")
    if first < 0:
        raise BadFile("has strides that do not fit its shape; get it again")
    if first + reached > capacity:
        raise BadFile("reaches out of its storage; get it again")
    offset = record[0] + start + first * item_size
    return StoredArray(offset, element.dtype, shape, apart, element.bfloat16)


@lru_cache(maxsize=1024)  # a network has few of them, each many times
def _extent(
    shape: tuple[int, ...], strides: tuple[int, ...]
) -> tuple[int, int, Optional[tuple[int, ...]]]:
    """Count the elements, and those of the storage up to the last; strides if not contiguous."""
    count = count_elements(shape)
    if len(strides) != len(shape) or min(strides, default=0) < 0:
        raise BadFile("has strides that do not fit its shape; get it again")
    if not count or _is_contiguous(shape, strides):
        return count, count, None
    return count, reach(shape, strides), strides


def _is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True
