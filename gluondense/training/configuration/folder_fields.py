# SPDX-License-Identifier: Apache-2.0
"""The fields of a configuration that describe people's own images; imports no NumPy."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Optional

from .settings import Section, count, items, number, path, setting, switch, text, unique_name

COLUMNS = items("a tuple of column names", lambda names: len(names) > 0, "COLUMN[,COLUMN]")


@dataclass(frozen=True)
class FolderFields(Section):
    """The columns of a CSV file of images, and how images are split; of data set ``folder`` only.

    See :mod:`gluondense.data.datasets.folder.open`.
    """

    image_dir: Optional[str] = setting(
        None, "folder that the paths of the CSV file are relative to; by default the file's", path()
    )
    path_column: str = setting("path", "column of the images' paths", text("COLUMN"))
    label_columns: tuple[str, ...] = setting(
        ("label",),
        "column of the class; of several labels, separated by |, or a 0/1 column per label",
        COLUMNS,
        flags=("--label-column",),
    )
    split_column: str = setting(
        "split", "column of train, val or test; none splits anew", text("COLUMN")
    )
    group_column: Optional[str] = setting(
        None,
        "column of groups, such as patients, that are never in two splits",
        text("COLUMN"),
        flags=("--group",),
    )
    multi_label: bool = setting(False, "an image has several labels", switch())
    empty_label: Optional[str] = setting(
        None, "value of the label column that means none of the labels", text("VALUE")
    )
    validation_share: float = setting(
        0.2,
        "share of the training images that are split off if there are no validation images",
        number(0, 1, "neither"),
        flags=("--val-share",),
    )
    split_seed: int = setting(0, "seed of this split", count(0))


FOLDER_FIELDS = tuple(unique_name(spec) for spec in fields(FolderFields))
