# SPDX-License-Identifier: Apache-2.0
"""Read a CSV file of paths and labels; each message names the file and the row."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ....errors import check_known, closest, in_one_line
from ...files.image_list import ImageList
from .rows import Row, read_path, read_rows
from .table import SPLIT_NAMES, ImageTable

SEPARATOR = "|"  # of several labels in a cell
# The field of a run's configuration for each field of `Columns`, as messages name it.
ARGUMENTS = {
    "path": "`path_column`",
    "labels": "`label_columns`",
    "split": "`split_column`",
    "group": "`group_column`",
    "several_labels": "`multi_label`",
    "empty_label": "`empty_label`",
}
_VALUES = {"0": 0.0, "0.0": 0.0, "1": 1.0, "1.0": 1.0, "": np.nan}


@dataclass(frozen=True)
class Columns:
    """The columns of a CSV file, and what they contain.

    Parameters
    ----------
    path
        Paths of the images, relative to a folder.
    labels
        The class of each image. With ``several_labels``: one column of labels between ``|``, or
        several columns, one per label, with 1, 0 or blank for unknown.
    split
        ``train``, ``val`` or ``test``, or another of ``SPLIT_NAMES``. The column ``"split"`` may be
        missing, any other may not. None: the images have no splits.
    group
        Group of each image, such as a patient; None: there are no groups.
    several_labels
        Whether an image has several labels.
    empty_label
        Value of the label column that stands for none of the labels.
    """

    path: str = "path"
    labels: tuple[str, ...] = ("label",)
    split: str | None = "split"
    group: str | None = None
    several_labels: bool = False
    empty_label: str | None = None


def read_csv(
    path: str | os.PathLike[str], root: Path, columns: Columns, errors: str = "strict"
) -> ImageTable:
    """Read the table of images in a CSV file, without looking for the images.

    Parameters
    ----------
    path
        The file, in UTF-8 with commas. Its first row names the columns.
    root
        Folder that the paths are relative to.
    columns
        What to read. Classes and labels are sorted by name, unless they are columns.
    errors
        ``"surrogateescape"`` accepts paths that are not UTF-8, else as for ``bytes.decode``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file cannot be read as described; the message names the row.
    """
    path = Path(path)
    header, rows = read_rows(path, columns.path, errors)
    _check_header(path, header, columns)
    names = _read_paths(rows, columns.path)
    several = columns.several_labels
    read = (_read_columns if len(columns.labels) > 1 else _read_lists) if several else _read_classes
    labels, class_names = read(rows, columns)
    images = ImageList(root, np.array([os.fsencode(name) for name in names]), labels, class_names)
    return ImageTable(
        images,
        np.array(_read_splits(rows, header, columns), "U5"),
        None if columns.group is None else _read_groups(rows, columns.group),
        str(path),
        np.array([row.number for row in rows]),
    )


def _check_header(path: Path, header: list[str], columns: Columns) -> None:
    """Raise a ValueError that lists the columns, unless all are there."""
    wanted = {"path": (columns.path,), "labels": columns.labels}
    if columns.split not in (None, "split"):
        wanted["split"] = (columns.split,)
    if columns.group is not None:
        wanted["group"] = (columns.group,)
    for field, names in wanted.items():
        for name in names:
            if name in header:
                continue
            if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
                text = in_one_line(repr(header[0]))
                raise ValueError(f"{path} row 1 is {text}; separate the columns by commas")
            raise ValueError(
                f"{path} row 1 has no column {name!r}{closest(name, header[:1000])} (its columns: "
                f"{in_one_line(', '.join(header))}); rename one, or name it with {ARGUMENTS[field]}"
            )
    if len(columns.labels) > 1 and not columns.several_labels:
        raise ValueError(
            f"{', '.join(columns.labels)} are several label columns: set `multi_label`"
        )


def _read_paths(rows: Sequence[Row], column: str) -> list[str]:
    """Return the paths, normalized; raise a ValueError for one that is there twice."""
    seen: dict[str, Row] = {}
    for row in rows:
        normal = read_path(row, column)
        if normal in seen:
            raise row.error(
                f"has the path {row.cells[column]}, as row {seen[normal].number} has; remove one"
            )
        seen[normal] = row
    return list(seen)


def _read_classes(rows: Sequence[Row], columns: Columns) -> tuple[np.ndarray, tuple[str, ...]]:
    (column,) = columns.labels
    for row in rows:
        if not row.cells[column]:
            raise row.error(f"has no label in column {column!r}")
        if SEPARATOR in row.cells[column]:
            raise row.error(f"has several labels, {row.cells[column]!r}: set `multi_label`")
    values = [row.cells[column] for row in rows]
    names = sorted(set(values))
    numbers = {name: number for number, name in enumerate(names)}
    return np.array([numbers[value] for value in values], np.int64), tuple(names)


def _read_lists(rows: Sequence[Row], columns: Columns) -> tuple[np.ndarray, tuple[str, ...]]:
    """Read a column of labels between ``|``."""
    (column,) = columns.labels
    lists = [_read_list(row, column, columns.empty_label) for row in rows]
    names = sorted(set().union(*lists))
    if not names:
        raise ValueError(
            f"column {column!r} of {rows[0].place.rpartition(' row ')[0]} has no label, in no "
            "row; check `label_columns` and `empty_label`"
        )
    numbers = {name: number for number, name in enumerate(names)}
    labels = np.zeros((len(rows), len(names)), np.float32)
    for label, items in zip(labels, lists):
        label[[numbers[item] for item in items]] = 1
    return labels, tuple(names)


def _read_list(row: Row, column: str, empty_label: str | None) -> set[str]:
    text = row.cells[column]
    if text == empty_label:
        return set()
    if not text:
        raise row.error(
            f"has no label in column {column!r}; if that means none of the labels, set "
            "`empty_label` to ''"
        )
    items = {item.strip() for item in text.split(SEPARATOR)}
    if "" in items:
        raise row.error(f"has an empty label in {text!r}")
    if empty_label in items:
        raise row.error(f"has {empty_label!r}, which means no label, beside others: {text!r}")
    return items


def _read_columns(rows: Sequence[Row], columns: Columns) -> tuple[np.ndarray, tuple[str, ...]]:
    """Read a column per label."""
    for row in rows:
        for column in columns.labels:
            if row.cells[column] not in _VALUES:
                raise row.error(
                    f"has {row.cells[column]!r} in column {column!r}; it must be 1, 0, or blank "
                    "for unknown"
                )
    values = [[_VALUES[row.cells[column]] for column in columns.labels] for row in rows]
    return np.array(values, np.float32), columns.labels


def _read_splits(rows: Sequence[Row], header: list[str], columns: Columns) -> Iterable[str]:
    if columns.split is None or columns.split not in header:
        return [""] * len(rows)
    return [read_split_name(row, columns.split) for row in rows]


def read_split_name(row: Row, column: str) -> str:
    """Return ``train``, ``val`` or ``test`` for the cell of a row, one of ``SPLIT_NAMES``."""
    value = row.cells[column].lower()
    try:
        check_known("split", value, SPLIT_NAMES)
    except ValueError as error:
        raise row.error(f"has an {error}") from None
    return SPLIT_NAMES[value]


def _read_groups(rows: Sequence[Row], column: str) -> np.ndarray:
    for row in rows:
        if not row.cells[column]:
            raise row.error(f"has no group in column {column!r}")
    return np.array([row.cells[column] for row in rows])
