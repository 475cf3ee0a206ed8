# SPDX-License-Identifier: Apache-2.0
"""Read and write RecordIO files, MXNet's container of images: ``NAME.rec``, index ``NAME.idx``.

``mxnet.recordio`` cannot append to a file, which an interrupted conversion needs in order to
resume, and its handles are neither thread-safe nor usable after a fork. The bytes are the same.

References
----------
Format: ``dmlc-core/include/dmlc/recordio.h``; record header: ``mxnet.recordio.IRHeader``.
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
# A record is split where it contains the magic number; 3 bits of the length word mark the parts.
WHOLE, FIRST, MIDDLE, LAST = range(4)
_LENGTH = (1 << 29) - 1
_HEADER = struct.Struct("<IfQQ")  # flag, label, id, id2


class Record(NamedTuple):
    """An encoded image with its key and label."""

    key: int
    label: float
    data: bytes


def write_record(file: BinaryIO, record: Record) -> None:
    """Append a record of less than 512 MiB, the format's limit, padded to a multiple of 4 bytes."""
    content = _HEADER.pack(0, record.label, record.key, 0) + record.data
    if len(content) > _LENGTH:
        raise ValueError(f"record {record.key} has {len(content)} bytes, RecordIO's limit is 2^29")
    parts = _split_at_magic(content)
    flags = [WHOLE] if len(parts) == 1 else [FIRST, *[MIDDLE] * (len(parts) - 2), LAST]
    for flag, part in zip(flags, parts):
        file.write(MAGIC + struct.pack("<I", flag << 29 | len(part)) + part)
        file.write(b"\0" * (-len(part) % 4))


def _split_at_magic(content: bytes) -> list[bytes]:
    """Split at each magic number whose offset is a multiple of 4, and leave it out."""
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
    r"""Random access to the records of ``NAME.rec``, safe to share between processes.

    Its index ``NAME.idx`` is in the same folder. Raises a ValueError if the index is damaged or has
    offsets beyond the end of the file.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with open(folder / "a.rec", "wb") as file:
    ...     write_record(file, Record(7, 2.0, b"image"))
    >>> _ = (folder / "a.idx").write_text("7\t0\n")
    >>> RecordFile(folder / "a.rec").read(0)
    Record(key=7, label=2.0, data=b'image')
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.index = self.path.with_suffix(".idx")
        for file, kind in ((self.path, "RecordIO file"), (self.index, "index")):
            if not file.is_file():
                raise FileNotFoundError(
                    f"no {kind} {file}; `gluondense make-recordio` makes both from a folder"
                )
        self.keys, self.offsets = read_index(self.index)
        if len(self.offsets) and int(self.offsets.max()) + 8 > self.path.stat().st_size:
            raise ValueError(
                f"{self.path} is truncated or not the file of {self.index}, which names a record "
                f"at byte {self.offsets.max()} of {self.path.stat().st_size}; get or make it again"
            )
        self._opened: int | None = None

    def __len__(self) -> int:
        return len(self.offsets)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_opened": None}

    def read(self, index: int) -> Record:
        """Read the record at a position of the index; it must have a single label."""
        key, labels, data = self._read(index)
        if len(labels) != 1:
            raise ValueError(
                f"record {key} of {self.path} has {len(labels)} labels; a classifier needs one"
            )
        return Record(key, labels[0], data)

    def read_data(self, index: int) -> bytes:
        """Read the encoded image at a position of the index, however many labels it has."""
        return self._read(index)[2]

    def _read(self, index: int) -> tuple[int, tuple[float, ...], bytes]:
        if self._opened is None:
            self._opened = os.open(self.path, os.O_RDONLY)
            weakref.finalize(self, os.close, self._opened)
        offset = int(self.offsets[index])
        return _parse(_read_content(self._opened, self.path, offset)[0], self.path, offset)


def read_first(path: Path, count: int) -> Iterator[bytes]:
    """Yield the first ``count`` encoded images of a RecordIO file that has no index."""
    with open(path, "rb", buffering=0) as file:
        offset, size = 0, path.stat().st_size
        while offset < size and count > 0:
            content, end = _read_content(file.fileno(), path, offset)
            yield _parse(content, path, offset)[2]
            offset, count = end, count - 1


def _parse(content: bytes, path: Path, offset: int) -> tuple[int, tuple[float, ...], bytes]:
    """Split the content of a record into its key, its labels and the encoded image."""
    if len(content) < _HEADER.size:
        raise _damaged(path, offset, "the record ends within its header")
    flag, label, key, _ = _HEADER.unpack_from(content)
    begin = _HEADER.size + 4 * flag  # flag counts the labels after the header; 0 is one within it
    if begin > len(content):
        raise _damaged(path, offset, "the record ends within its labels")
    labels = struct.unpack_from(f"<{flag}f", content, _HEADER.size) if flag else (label,)
    return key, labels, content[begin:]


def _read_content(descriptor: int, path: Path, offset: int) -> tuple[bytes, int]:
    """Read the content of the record at an offset; return it and the offset of its end."""
    parts, flag, size = [], FIRST, os.fstat(descriptor).st_size
    while flag in (FIRST, MIDDLE):
        # pread does not use the file position, which forked processes share.
        head = os.pread(descriptor, 8, offset)
        if head[:4] != MAGIC or len(head) < 8:
            raise _damaged(path, offset, "no record begins there")
        word = struct.unpack_from("<I", head, 4)[0]
        flag, length = word >> 29, word & _LENGTH
        # Checked first, because pread allocates the length, of up to 512 MiB.
        if offset + 8 + length > size:
            raise _damaged(path, offset, "the file ends within the record")
        part = os.pread(descriptor, length, offset + 8)
        parts.append(part)
        offset += 8 + length + -length % 4
    return MAGIC.join(parts), offset


def _damaged(path: Path, offset: int, reason: str) -> ValueError:
    return ValueError(f"{path} is damaged at byte {offset} ({reason}); make it again")


def read_index(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """Read the keys and the byte offsets of an index file, both int64 (N,), in the file's order."""
    text = Path(path).read_bytes()
    try:
        numbers = np.array(text.split(), dtype=np.int64)
    except (ValueError, OverflowError):
        raise ValueError(f"{path} is not an index of a RecordIO file; make it again") from None
    if (numbers < 0).any():
        raise ValueError(f"{path} has the negative number {numbers.min()}; make it again")
    if len(numbers) % 2 or (len(text) and not text.endswith(b"\n")):
        raise ValueError(f"{path} is truncated; make it again")
    return numbers[::2].copy(), numbers[1::2].copy()


def end_of(path: Path, offset: int) -> int:
    """Return the byte offset at which the record that begins at ``offset`` ends, if it is whole."""
    with open(path, "rb", buffering=0) as file:
        return _read_content(file.fileno(), path, offset)[1]
