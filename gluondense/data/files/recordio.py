"""RecordIO files, MXNet's container of many pictures: ``NAME.rec`` and its index ``NAME.idx``.

Written here rather than through ``mxnet.recordio``, which can't append to a file, so that an
interrupted conversion goes on where it stopped; and read here, because a handle of MXNet's is
neither thread-safe nor of use after a fork. The bytes are the same.

References
----------
The format: ``dmlc-core/include/dmlc/recordio.h``; the header: ``mxnet.recordio.IRHeader``.
"""

from __future__ import annotations

import os
import struct
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

MAGIC = struct.pack("<I", 0xCED7230A)
# A picture that holds the magic number is cut there; the parts are numbered in these 3 bits.
WHOLE, FIRST, MIDDLE, LAST = range(4)
_LENGTH = (1 << 29) - 1
_HEADER = struct.Struct("<IfQQ")  # flag, label, id, id2


class Record(NamedTuple):
    """A picture, still encoded, with its number and label."""

    key: int
    label: float
    data: bytes


def write_record(file: BinaryIO, record: Record) -> None:
    """Append a record to an open file, at a multiple of 4 bytes.

    Raises
    ------
    ValueError
        If the picture has 512 MiB or more, the format's limit.
    """
    content = _HEADER.pack(0, record.label, record.key, 0) + record.data
    if len(content) > _LENGTH:
        raise ValueError(f"record {record.key} has {len(content)} bytes, RecordIO's limit is 2^29")
    parts = _parts(content)
    for place, part in enumerate(parts):
        if len(parts) == 1:
            flag = WHOLE
        else:
            flag = FIRST if place == 0 else LAST if place == len(parts) - 1 else MIDDLE
        file.write(MAGIC + struct.pack("<I", flag << 29 | len(part)) + part)
        file.write(b"\0" * (-len(part) % 4))


def _parts(content: bytes) -> list[bytes]:
    """Cut at each magic number that stands at a multiple of 4, which is left out."""
    parts, begin, at = [], 0, content.find(MAGIC)
    while at >= 0:
        if at % 4 == 0:
            parts.append(content[begin:at])
            begin = at + 4
            at = content.find(MAGIC, begin)
        else:
            at = content.find(MAGIC, at + 1)
    return [*parts, content[begin:]]


class RecordFile:
    r"""Pictures of a RecordIO file by their place in its index; for any number of processes.

    Parameters
    ----------
    path
        ``NAME.rec``.
    index
        ``NAME.idx``; None looks beside the file.

    Raises
    ------
    FileNotFoundError
        If one of the two is missing.
    ValueError
        If the index is damaged or names places that the file doesn't have.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with open(folder / "a.rec", "wb") as file:
    ...     write_record(file, Record(7, 2.0, b"picture"))
    >>> _ = (folder / "a.idx").write_text("7\t0\n")
    >>> RecordFile(folder / "a.rec").read(0)
    Record(key=7, label=2.0, data=b'picture')
    """

    def __init__(
        self, path: str | os.PathLike[str], index: str | os.PathLike[str] | None = None
    ) -> None:
        self.path = Path(path)
        self.index = Path(index) if index is not None else self.path.with_suffix(".idx")
        for file, what in ((self.path, "RecordIO file"), (self.index, "index")):
            if not file.is_file():
                raise FileNotFoundError(
                    f"no {what} {file}; scripts/make_recordio.py makes both of a folder"
                )
        self.keys, self.offsets = read_index(self.index)
        if len(self.offsets) and self.offsets.max() + 8 > self.path.stat().st_size:
            raise ValueError(
                f"{self.path} is truncated or not the file of {self.index}, which names a record "
                f"at byte {self.offsets.max()} of {self.path.stat().st_size}; get or make it again"
            )
        self._opened: int | None = None

    def __len__(self) -> int:
        return len(self.offsets)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_opened": None}

    def read(self, place: int) -> Record:
        """Read one record, given its place in the index.

        Raises
        ------
        ValueError
            If the file is damaged there, or the record has several labels.
        """
        offset = int(self.offsets[place])
        content, _ = _read_content(self._descriptor(), self.path, offset)
        if len(content) < _HEADER.size:
            raise _damaged(self.path, offset, "it ends within its header")
        flag, label, key, _ = _HEADER.unpack_from(content)
        begin = _HEADER.size + 4 * flag
        if flag > 1:
            raise ValueError(
                f"record {key} of {self.path} has {flag} labels; a classifier needs one"
            )
        if flag == 1:
            (label,) = struct.unpack_from("<f", content, _HEADER.size)
        return Record(key, label, content[begin:])

    def _descriptor(self) -> int:
        if self._opened is None:
            self._opened = os.open(self.path, os.O_RDONLY)
            weakref.finalize(self, os.close, self._opened)
        return self._opened


def _read_content(descriptor: int, path: Path, offset: int) -> tuple[bytes, int]:
    """Read the content of the record at a byte, and where the record ends."""
    parts, flag = [], FIRST
    while flag in (FIRST, MIDDLE):
        # At a place of one's own choice: processes may share the file, forked ones too.
        head = os.pread(descriptor, 8, offset)
        if head[:4] != MAGIC or len(head) < 8:
            raise _damaged(path, offset, "no record begins there")
        word = struct.unpack_from("<I", head, 4)[0]
        flag, length = word >> 29, word & _LENGTH
        part = os.pread(descriptor, length, offset + 8)
        if len(part) < length:
            raise _damaged(path, offset, "the file ends within the record")
        parts.append(part)
        offset += 8 + length + -length % 4
    return MAGIC.join(parts), offset


def _damaged(path: Path, offset: int, reason: str) -> ValueError:
    return ValueError(f"{path} is damaged at byte {offset} ({reason}); make it again")


def read_index(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """Read the keys and the byte offsets of an index file, both int64 (N,), in the file's order.

    Raises
    ------
    ValueError
        If a line is not a key and an offset.
    """
    text = Path(path).read_bytes()
    try:
        numbers = np.array(text.split(), dtype=np.int64)
    except ValueError:
        raise ValueError(f"{path} is not an index of a RecordIO file; make it again") from None
    if len(numbers) % 2 or (len(text) and not text.endswith(b"\n")):
        raise ValueError(f"{path} is truncated; make it again")
    return numbers[::2].copy(), numbers[1::2].copy()


def end_of(path: Path, offset: int) -> int:
    """Find where the record that begins at a byte ends.

    Raises
    ------
    ValueError
        If it isn't whole.
    """
    with open(path, "rb", buffering=0) as file:
        return _read_content(file.fileno(), path, offset)[1]


def read_labels(path: str | os.PathLike[str]) -> Iterator[tuple[int, float, str]]:
    """Read the rows of a list file ``NAME.lst`` as im2rec writes them: number, label, path.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a line has no three columns, or several labels.
    """
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            columns = line.rstrip("\n").split("\t")
            if columns == [""]:
                continue
            try:
                key, label, name = int(columns[0]), float(columns[1]), columns[-1]
                if len(columns) != 3:
                    raise ValueError
            except (ValueError, IndexError):
                raise ValueError(
                    f"line {number} of {path} is not number, label and path between tabs: "
                    f"{line.strip()[:60]!r}"
                ) from None
            yield key, label, name
