# SPDX-License-Identifier: Apache-2.0
"""The table of a data set of image files: path, label and split of each."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...files.image_list import ImageList
from ...files.sources import EncodedImage, FolderSource

TRAIN, VAL, TEST = SPLITS = ("train", "val", "test")
# What folders and CSV files call them.
SPLIT_NAMES = {
    **{name: name for name in SPLITS},
    "training": TRAIN,
    "valid": VAL,
    "validation": VAL,
    "dev": VAL,
    "testing": TEST,
}


@dataclass(frozen=True)
class ImageTable:
    """Image files with their labels and splits.

    Parameters
    ----------
    images
        The files and their labels: classes (N,), or several labels (N, labels) of 1, 0 and NaN for
        unknown.
    splits
        Name of each image's split, one of ``SPLITS``, or "" if it has none, (N,).
    groups
        Group of each image, such as a patient, (N,); None if there are no groups.
    origin
        The CSV file in messages; "" for class folders.
    rows
        Row of each image in the CSV file, (N,), where 1 is the header; None for class folders.
    """

    images: ImageList
    splits: np.ndarray
    groups: np.ndarray | None = None
    origin: str = ""
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def labels(self) -> np.ndarray:
        """Labels of all images, see ``images``."""
        return self.images.labels

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class or label."""
        return self.images.class_names

    @property
    def has_several_labels(self) -> bool:
        """Whether an image has several labels instead of a class."""
        return self.labels.ndim == 2

    def counts(self) -> np.ndarray:
        """Return the number of images that have each class or label, int64 (classes,)."""
        if self.has_several_labels:
            return (self.labels == 1).sum(axis=0)
        return np.bincount(self.labels, minlength=len(self.class_names))

    def having(self, label: int) -> np.ndarray:
        """Return the indices of the images that have a class or label."""
        labels = self.labels[:, label] == 1 if self.has_several_labels else self.labels == label
        return np.flatnonzero(labels)

    def where(self, index: int) -> str:
        """Return the place of an image for messages: its row, or its path.

        Examples
        --------
        >>> from pathlib import Path
        >>> images = ImageList(Path("cats"), np.array([b"a.png"]), np.zeros(1, int), ("cat",))
        >>> table = ImageTable(images, np.array([""]))
        >>> table.where(0), replace(table, origin="cats.csv", rows=np.array([2])).where(0)
        ('cats/a.png', 'cats.csv row 2')
        """
        if self.rows is None:
            return str(self.images.path(index))
        return f"{self.origin} row {self.rows[index]}"

    def with_splits(self, splits: np.ndarray) -> ImageTable:
        """Return the table with other splits."""
        return replace(self, splits=splits)

    def select(self, chosen: np.ndarray) -> ImageTable:
        """Return the table of the chosen images: a mask or indices."""
        images = self.images
        return replace(
            self,
            images=replace(images, names=images.names[chosen], labels=images.labels[chosen]),
            splits=self.splits[chosen],
            groups=None if self.groups is None else self.groups[chosen],
            rows=None if self.rows is None else self.rows[chosen],
        )

    def split(self, name: str) -> ImageTable:
        """Return the images of a split."""
        return self.select(self.splits == name)


class TableSource(FolderSource):
    """The images of a table; messages name the row of the CSV file too."""

    def __init__(self, table: ImageTable) -> None:
        super().__init__(table.images)
        self.table = table

    def read(self, index: int) -> EncodedImage:
        """Read one image, see :class:`gluondense.data.files.sources.Source`."""
        image = super().read(index)
        if self.table.rows is None:
            return image
        return image._replace(name=f"{image.name} ({self.table.where(index)})")
