# SPDX-License-Identifier: Apache-2.0
"""Annotated images: as the readers give them, and validated, in arrays."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from ...errors import closest, in_one_line, is_number
from ..boxes import letterbox, stretch

Size = tuple[int, int]  # height, width
LARGEST = 1e6  # coordinate in pixels


class RawBox(NamedTuple):
    """An object of an image before it is checked.

    Attributes
    ----------
    class_name
        Name of its class.
    corners
        x1, y1, x2, y2 in pixels; x2 and y2 are exclusive ends.
    difficult
        Whether evaluation ignores it: VOC's ``difficult``, COCO's ``iscrowd``.
    place
        The object in messages, such as ``"object 3"``.
    """

    class_name: str
    corners: tuple[float, float, float, float]
    difficult: bool
    place: str


class RawImage(NamedTuple):
    """An image and its objects before they are checked.

    Attributes
    ----------
    path
        The image's file.
    size
        Height and width that the annotation gives; None if it gives none.
    boxes
        The objects.
    origin
        The annotation's file in messages.
    """

    path: Path
    size: Size | None
    boxes: Sequence[RawBox]
    origin: str


class BadAnnotation(ValueError):
    """An image whose annotation cannot be read; the other images can be used."""


def to_number(text: str) -> float:
    """Return the number in a text, NaN if it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def is_coordinate(value: Any) -> bool:
    """Return whether the value is a number that can be a coordinate; NaN and 1e9 are none."""
    return is_number(value) and abs(value) < LARGEST


class Reader(Protocol):
    """A data set of one of the known formats."""

    @property
    def origin(self) -> str:
        """The folder or file in messages."""

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that it has."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes; None if only the objects have them."""

    def read(self, split: str) -> Iterable[RawImage | BadAnnotation]:
        """Read the images of a split in order.

        Raises a ValueError or an OSError if the split cannot be read at all.
        """


def check_split(reader: Reader, split: str) -> None:
    """Raise a ValueError that lists the splits of a data set, unless it has this one."""
    for part in split.split("+"):
        if part not in reader.splits:
            known = in_one_line(", ".join(reader.splits)) or "no splits"
            hint = closest(part, reader.splits)
            raise ValueError(f"{reader.origin} has no split {part!r}{hint} (it has {known})")


@dataclass(frozen=True)
class Annotations:
    """Images and their boxes; forked processes share the arrays.

    Parameters
    ----------
    names
        Paths of the images as bytes (N,).
    sizes
        Height and width of each image, EXIF orientation applied, int64 (N, 2).
    boxes
        Boxes of all images, float32 (B, 6): x1, y1, x2, y2, class, difficult.
    first
        Index of each image's first box, and B at the end, int64 (N + 1,).
    class_names
        Name of each class.
    """

    names: np.ndarray
    sizes: np.ndarray
    boxes: np.ndarray
    first: np.ndarray
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path:
        """Return the path of an image."""
        return Path(os.fsdecode(self.names[index]))

    def boxes_of(self, index: int) -> np.ndarray:
        """Return the boxes of an image, (M, 6)."""
        return self.boxes[self.first[index] : self.first[index + 1]]

    def counts(self) -> np.ndarray:
        """Return the number of boxes of each class, int64 (classes,)."""
        return np.bincount(self.boxes[:, 4].astype(int), minlength=len(self.class_names))

    def sizes_in(self, input_size: tuple[int, int], keep_aspect: bool) -> np.ndarray:
        """Return width and height of all boxes in pixels of an input, float32 (B, 2).

        ``input_size`` is its height and width; ``keep_aspect`` says whether images are letterboxed
        or stretched.
        """
        place = letterbox if keep_aspect else stretch
        parts = [np.zeros((0, 4), np.float32)]
        for index, (height, width) in enumerate(self.sizes.tolist()):
            boxes = self.boxes_of(index)[:, :4]
            parts.append(place((height, width), input_size).to_input(boxes))
        corners = np.concatenate(parts)
        return corners[:, 2:] - corners[:, :2]
