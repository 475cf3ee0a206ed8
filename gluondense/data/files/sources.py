# SPDX-License-Identifier: Apache-2.0
"""One interface to the encoded images of a folder and of a RecordIO file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple, Protocol, Union

import numpy as np

from ...text import read_text
from .image_list import ImageList, list_from_file
from .recordio import RecordFile

BAD = ("skip", "error")  # what to do with an unreadable image
Label = Union[int, np.ndarray]


class EncodedImage(NamedTuple):
    """The bytes of an image file, its label, and its name for error messages.

    The label is a class, or a float32 row (labels,) of 1, 0 and NaN for unknown: several labels.
    """

    data: bytes
    label: Label
    name: str


class Source(Protocol):
    """A sequence of encoded images; several processes may read it at once, forked ones too."""

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Shape of a label: () for a class, (labels,) for several labels."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> EncodedImage:
        """Read one image; raises an OSError or a ValueError if it cannot be read."""


class FolderSource:
    """The images of an :class:`.image_list.ImageList`."""

    def __init__(self, images: ImageList) -> None:
        self.images = images

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Shape of a label, see :class:`Source`."""
        return self.images.labels.shape[1:]

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> EncodedImage:
        """Read one image, see :class:`Source`."""
        images, label = self.images, self.images.labels[index]
        label = label if self.label_shape else int(label)
        return EncodedImage(images.read(index), label, str(images.path(index)))


class RecordSource:
    """The images of a RecordIO file, a class each."""

    label_shape: tuple[int, ...] = ()

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.file = RecordFile(path)
        if not len(self.file):
            raise ValueError(f"{path} has no records")

    def __len__(self) -> int:
        return len(self.file)

    def read(self, index: int) -> EncodedImage:
        """Read one image, see :class:`Source`."""
        record = self.file.read(index)
        if not record.label.is_integer():  # neither is NaN
            raise ValueError(
                f"record {record.key} of {self.file.path} has the label {record.label}, which is "
                "not a class"
            )
        name = f"{self.file.path} (record {record.key})"
        return EncodedImage(record.data, int(record.label), name)


class RelabeledSource:
    """The images of another source, with the label ``labels[i]`` for each label ``i``.

    Of several labels, those that become the same label are merged: 1 if one of them is 1.
    """

    def __init__(self, source: Source, labels: np.ndarray) -> None:
        self.source, self.labels = source, labels

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Shape of a label, see :class:`Source`."""
        return (int(self.labels.max()) + 1,) if self.source.label_shape else ()

    def __len__(self) -> int:
        return len(self.source)

    def read(self, index: int) -> EncodedImage:
        """Read one image, see :class:`Source`; a label out of range stays as it is."""
        image = self.source.read(index)
        if not isinstance(image.label, int):
            merged = np.full(self.label_shape, np.nan, np.float32)
            np.fmax.at(merged, self.labels, image.label)
            return image._replace(label=merged)
        if not 0 <= image.label < len(self.labels):
            return image
        return image._replace(label=int(self.labels[image.label]))


def record_class_names(path: str | os.PathLike[str]) -> tuple[str, ...] | None:
    """Return the class names of a RecordIO file from the files beside it; None if there are none.

    ``NAME.classes.txt``, one class per line, is written by ``gluondense make-recordio``. im2rec's
    ``NAME.lst`` gives only the number of classes, by its largest label.
    """
    path = Path(path)
    names = path.with_suffix(".classes.txt")
    if names.is_file():
        return tuple(read_text(names).splitlines())
    rows = path.with_suffix(".lst")
    if rows.is_file() and rows.stat().st_size:
        return tuple(map(str, range(len(list_from_file(path.parent, rows).class_names))))
    return None
