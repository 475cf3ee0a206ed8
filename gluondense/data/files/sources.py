"""Where encoded pictures come from: a folder or a RecordIO file, one interface."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple, Protocol

from ..datasets.folders import PictureList
from .recordio import RecordFile, read_labels


class Picture(NamedTuple):
    """An encoded picture, its label, and what messages call it."""

    data: bytes
    label: int
    name: str


class Source(Protocol):
    """Pictures by their place; may be used in several processes at once, forked ones too."""

    def __len__(self) -> int: ...

    def read(self, place: int) -> Picture:
        """Read one.

        Raises
        ------
        OSError, ValueError
            If it can't be read.
        """
        ...


class FolderSource:
    """The pictures of a list."""

    def __init__(self, pictures: PictureList) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def read(self, place: int) -> Picture:
        """Read one, see :class:`Source`."""
        path = self.pictures.root / self.pictures.name(place)
        return Picture(path.read_bytes(), int(self.pictures.labels[place]), str(path))


class RecordSource:
    """The pictures of a RecordIO file."""

    def __init__(
        self, path: str | os.PathLike[str], index: str | os.PathLike[str] | None = None
    ) -> None:
        self.file = RecordFile(path, index)
        if not len(self.file):
            raise ValueError(f"{path} holds no records")

    def __len__(self) -> int:
        return len(self.file)

    def read(self, place: int) -> Picture:
        """Read one, see :class:`Source`."""
        record = self.file.read(place)
        if record.label != int(record.label):
            raise ValueError(
                f"record {record.key} of {self.file.path} has the label {record.label}, no class"
            )
        name = f"{self.file.path} (record {record.key})"
        return Picture(record.data, int(record.label), name)


def class_names_beside(path: str | os.PathLike[str]) -> tuple[str, ...] | None:
    """Find the classes of a RecordIO file by the files beside it; None if there are none.

    ``NAME.classes.txt``, a class a line, is written by ``scripts/make_recordio.py``; of im2rec's
    ``NAME.lst`` the largest label tells how many there are.
    """
    path = Path(path)
    names = path.with_suffix(".classes.txt")
    if names.is_file():
        return tuple(names.read_text(encoding="utf-8").splitlines())
    rows = path.with_suffix(".lst")
    if rows.is_file():
        return tuple(map(str, range(1 + int(max(label for _, label, _ in read_labels(rows))))))
    return None
