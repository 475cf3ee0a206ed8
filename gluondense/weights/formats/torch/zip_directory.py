"""The table of contents of a zip archive, with the sizes of zip64; nothing of it is believed.

``zipfile`` takes thrice as long, and goes on where an entry contradicts the table.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from ..tensor_index import BadFile, Source, shown

_END, _END_MAGIC = struct.Struct("<4s6xHLLH"), b"PK\5\6"
_LOCATOR, _LOCATOR_MAGIC = struct.Struct("<4s4xQ4x"), b"PK\6\7"
_END_64, _END_64_MAGIC = struct.Struct("<4s28xQQQ"), b"PK\6\6"
_ROW, _ROW_MAGIC = struct.Struct("<4s4xHH4xLLLHHH8xL"), b"PK\1\2"
_LONGEST_COMMENT = 0xFFFF
_IN_ZIP64 = 0xFFFFFFFF
_UTF_8 = 0x800
# A DenseNet's has 70 KiB.
_LONGEST_TABLE = 4 << 20


class Entry(NamedTuple):
    """What the table says of a file in the archive; ``at`` is where its own header begins."""

    flags: int
    method: int
    checksum: int
    packed_size: int
    size: int
    at: int


def read_table(source: Source) -> dict[str, Entry]:
    """Read the table at the end of an archive.

    Raises
    ------
    BadFile
        If there is none, it is damaged, or a name stands twice in it or climbs out of the archive.
    """
    try:
        rows = list(_rows(*_find(source)))
    except (struct.error, UnicodeDecodeError):
        raise _unsound(source) from None
    table: dict[str, Entry] = {}
    for name, entry in rows:
        if ".." in name or name.startswith(("/", "\\")):
            _check_name(name)
        if name in table:
            raise BadFile(f"has two entries of the name {shown(name)}; get it again")
        table[name] = entry
    return table


def _find(source: Source) -> tuple[bytes, int]:
    """Read the bytes of the table, and how many rows it has."""
    start = max(0, source.size - _END.size - _LONGEST_COMMENT)
    tail = source.read(source.size - start, start)
    at = tail.rfind(_END_MAGIC)
    if at < 0:
        raise _unsound(source)
    _, count, size, offset, comment = _END.unpack_from(tail, at)
    if at + _END.size + comment != len(tail):
        raise _unsound(source)
    end = start + at
    if at >= _LOCATOR.size:
        magic, place = _LOCATOR.unpack_from(tail, at - _LOCATOR.size)
        if magic == _LOCATOR_MAGIC:
            magic, count, size, offset = _END_64.unpack(source.read(_END_64.size, place))
            end = place
            if magic != _END_64_MAGIC:
                raise _unsound(source)
    # Were there other bytes between them, all that it says of places could be wrong.
    if offset + size != end or size > _LONGEST_TABLE:
        raise _unsound(source)
    return source.read(size, offset), count


def _rows(table: bytes, count: int) -> Iterator[tuple[str, Entry]]:
    at = 0
    for _ in range(count):
        row = _ROW.unpack_from(table, at)
        magic, flags, method, checksum, packed, size, name_size, extra_size, comment, offset = row
        at += _ROW.size
        name = table[at : at + name_size].decode("utf-8" if flags & _UTF_8 else "cp437")
        at += name_size
        if _IN_ZIP64 in (size, packed, offset):
            extra = table[at : at + extra_size]
            size, packed, offset = _widen((size, packed, offset), extra)
        at += extra_size + comment
        if magic != _ROW_MAGIC or at > len(table):
            raise struct.error
        yield name, Entry(flags, method, checksum, packed, size, offset)
    if at != len(table):
        raise struct.error


def _widen(numbers: tuple[int, ...], extra: bytes) -> list[int]:
    """Replace those that do not fit into 4 bytes by what the extra field of zip64 says."""
    at = 0
    while True:
        kind, length = struct.unpack_from("<HH", extra, at)
        at += 4
        if kind == 1:
            break
        at += length
    widened = []
    for number in numbers:
        if number == _IN_ZIP64:
            (number,) = struct.unpack_from("<Q", extra, at)
            at += 8
        widened.append(number)
    return widened


def _check_name(name: str) -> None:
    if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
        raise BadFile(f"is hostile: its entry {shown(name)} climbs out of the archive; delete it")


def _unsound(source: Source) -> BadFile:
    return BadFile(
        f"is truncated or damaged: it has {source.size} bytes and no sound table of contents at"
        " its end; get it again"
    )
