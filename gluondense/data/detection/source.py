# SPDX-License-Identifier: Apache-2.0
"""One interface to the encoded images and the boxes of a split."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..files.image import is_special
from .annotations import Annotations


class AnnotatedImage(NamedTuple):
    """An encoded image and its boxes.

    Attributes
    ----------
    data
        The bytes of the file.
    boxes
        Ground truth, float32 (M, 6): x1, y1, x2, y2 in pixels of the image, class, difficult.
    name
        Name of the image in error messages.
    """

    data: bytes
    boxes: np.ndarray
    name: str


class DetectionSource:
    """A sequence of encoded images with boxes; several processes may read it at once."""

    def __init__(self, annotations: Annotations) -> None:
        self.annotations = annotations

    def __len__(self) -> int:
        return len(self.annotations)

    def read(self, index: int) -> AnnotatedImage:
        """Read one image; raises an OSError or a ValueError if it cannot be read."""
        path = self.annotations.path(index)
        if is_special(path):
            raise ValueError(f"{path} is not a regular file")
        return AnnotatedImage(path.read_bytes(), self.boxes(index), str(path))

    def name(self, index: int) -> str:
        """Return the name of an image in messages."""
        return str(self.annotations.path(index))

    def boxes(self, index: int) -> np.ndarray:
        """Return the boxes of an image, see :class:`AnnotatedImage`."""
        return self.annotations.boxes_of(index)

    def size(self, index: int) -> tuple[int, int]:
        """Return the height and width of an image, as its annotation gives them."""
        height, width = self.annotations.sizes[index].tolist()
        return height, width

    @property
    def most_boxes(self) -> int:
        """Largest number of boxes of an image."""
        return int(np.diff(self.annotations.first).max(initial=0))
