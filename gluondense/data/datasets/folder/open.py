# SPDX-License-Identifier: Apache-2.0
"""Open people's own images for training and evaluation, and split them if they are not split."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from ..imagenet import ImageFiles, readable
from ..registry import DATASETS
from .class_folders import read_class_folders
from .csv_file import ARGUMENTS, Columns, read_csv
from .files import check_files, duplicates
from .split_file import RESERVED, read_split
from .splits import check_splits, split_table
from .table import TEST, TRAIN, VAL, ImageTable, TableSource


@dataclass(frozen=True)
class FolderImages(ImageFiles):
    """Images of class folders or of a CSV file; ``test`` are the validation images."""

    table: ImageTable  # all images with their splits
    part: str = VAL  # the split of ``test``; "" if it is all images

    @property
    def train_labels(self) -> np.ndarray:
        """Labels of the training images: classes (N,), or several labels (N, labels)."""
        return self.table.split(TRAIN).labels

    @property
    def test_labels(self) -> np.ndarray:
        """Labels of the images of ``test``."""
        return self.test_table.labels

    @property
    def test_groups(self) -> np.ndarray | None:
        """Group of each image of ``test``, (N,); None if there are no groups."""
        return self.test_table.groups

    @property
    def test_table(self) -> ImageTable:
        """The table of the images of ``test``."""
        return self.table.split(self.part) if self.part else self.table

    def with_part(self, part: str) -> FolderImages:
        """Return the same images with another split as ``test``, such as ``"test"``."""
        table = self.table.split(part)
        if not len(table):
            found = [name for name in (TRAIN, VAL, TEST) if (self.table.splits == name).any()]
            raise ValueError(
                f"the data set has no split {part!r}; it has {', '.join(found) or 'no splits'}."
            )
        return replace(self, part=part, test=TableSource(table))

    def summary(self) -> str:
        """Return the numbers of images and classes in words."""
        counts = {name: int((self.table.splits == name).sum()) for name in (TRAIN, VAL, TEST)}
        parts = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        kind = "labels" if self.table.has_several_labels else "classes"
        return f"{parts} images of {len(self.table.class_names)} {kind}"


def open_folder(
    data_dir: str | os.PathLike[str] | None,
    image_dir: str | os.PathLike[str] | None = None,
    columns: Columns = Columns(),  # noqa: B008 - frozen
    validation_share: float = 0.2,
    split_seed: int = 0,
    split_file: Path | None = None,
    training: bool = True,
) -> FolderImages:
    """Open images without decoding any; split them if they have no validation images.

    Parameters
    ----------
    data_dir
        A folder, see :func:`.class_folders.read_class_folders`, or a ``.csv`` file.
    image_dir
        Folder that the paths of a CSV file are relative to; default: that of the file.
    columns
        The columns of a CSV file.
    validation_share, split_seed
        Arguments of :func:`.splitting.stratified_split`. Only training images are split: a split
        ``test`` stays as it is.
    split_file
        A run's file with its images and splits, which is then the only source of labels.
    training
        Whether to open the training images too. If not, images without any split are all opened as
        ``test``, and nothing is split.

    Raises
    ------
    OSError
        If a folder or file is missing.
    ValueError
        If the images cannot be used; the message names the file and its row.
    """
    if data_dir is None:
        raise ValueError("name a folder of class folders or a .csv file as data_dir")
    source = Path(data_dir).expanduser()
    is_csv = source.suffix.lower() == ".csv"
    root = Path(image_dir).expanduser() if image_dir else source.parent if is_csv else source
    if split_file is not None:
        table = read_split(split_file, root, columns.several_labels)
    elif is_csv:
        table = read_csv(source, root, columns)
    else:
        _check_folder_options(columns, image_dir)
        table = read_class_folders(source)
    used = table if training else table.select(table.splits != TRAIN)
    if used.rows is not None:
        check_files(used, inside=split_file is None)
    if split_file is None and training:
        _check_label_names(table)
        table = split_table(table, validation_share, split_seed)
        check_splits(table)
        _warn_of_duplicates(table)
    return _opened(table, training)


def _check_folder_options(columns: Columns, image_dir: str | os.PathLike[str] | None) -> None:
    """Raise a ValueError for an option that class folders do not have."""
    if image_dir is not None:
        raise ValueError("`image_dir` is for the images of a .csv file, not for class folders")
    for field in fields(columns):
        if getattr(columns, field.name) != field.default:
            flag = ARGUMENTS[field.name]
            raise ValueError(
                f"{flag} is for a .csv file of paths and labels, not for class folders"
            )


def _check_label_names(table: ImageTable) -> None:
    taken = sorted(set(table.class_names) & set(RESERVED))
    if table.has_several_labels and taken:
        raise ValueError(
            f"{table.origin} has a label {taken[0]!r}, which is a column of the run's split.csv: "
            "rename it"
        )


def _warn_of_duplicates(table: ImageTable) -> None:
    found = duplicates(table)
    if not found:
        return
    first, second = (f"{table.images.name(index)} ({table.splits[index]})" for index in found[0])
    print(
        f"warning: {len(found)} image{'s' * (len(found) > 1)} of one split also in another: "
        f"{second} is the same file as {first}; the validation is too optimistic",
        file=sys.stderr,
    )


def _opened(table: ImageTable, training: bool) -> FolderImages:
    part = next((name for name in (VAL, TEST, TRAIN) if (table.splits == name).any()), "")
    train = table.split(TRAIN)
    info = replace(DATASETS["folder"], class_names=readable(table.class_names))
    if len(train):
        info = replace(info, counts=tuple(train.counts().tolist()))
    if len(train) and table.has_several_labels:
        info = replace(info, known=tuple((~np.isnan(train.labels)).sum(axis=0).tolist()))
    test = table.split(part) if part else table
    return FolderImages(
        info, TableSource(train) if training else None, TableSource(test), table, part
    )
