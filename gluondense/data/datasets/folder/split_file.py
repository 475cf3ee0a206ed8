# SPDX-License-Identifier: Apache-2.0
"""The file in which a run remembers its images, labels and splits: a CSV file that it can read."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ....files import write_bytes
from .csv_file import Columns, read_csv
from .table import ImageTable

PATH, LABEL, SPLIT, GROUP = RESERVED = ("path", "label", "split", "group")
_VALUES = {0.0: "0", 1.0: "1"}


def write_split(path: Path, table: ImageTable) -> None:
    """Write a table with its splits.

    The columns are ``path``, ``label`` or a column of 1, 0 and blank for each of several labels,
    ``split``, and ``group`` if there are groups.
    """
    several, grouped = table.has_several_labels, table.groups is not None
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    names = table.class_names if several else (LABEL,)
    writer.writerow([PATH, *names, SPLIT, *[GROUP] * grouped])
    groups = table.groups if table.groups is not None else [""] * len(table)
    for index, (label, split, group) in enumerate(zip(table.labels, table.splits, groups)):
        cells = _cells(label) if several else [table.class_names[label]]
        writer.writerow([table.images.name(index), *cells, split, *[group] * grouped])
    write_bytes(path, text.getvalue().encode(errors="surrogateescape"))


def _cells(label: np.ndarray) -> list[str]:
    return [_VALUES.get(float(value), "") for value in label]


def read_split(path: Path, root: Path, several_labels: bool) -> ImageTable:
    """Read a table that :func:`write_split` wrote; ``root`` is the folder of the images."""
    header = _read_header(path)
    labels = tuple(name for name in header if name not in RESERVED) if several_labels else (LABEL,)
    columns = Columns(
        labels=labels,
        group=GROUP if GROUP in header else None,
        several_labels=several_labels,
    )
    return read_csv(path, root, columns, "surrogateescape")


def _read_header(path: Path) -> Sequence[str]:
    if not path.is_file():
        raise FileNotFoundError(f"no {path}, which lists the images of the run")
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        try:
            return next(csv.reader(file), [])
        except csv.Error as error:
            raise ValueError(f"{path} row 1 is not CSV: {error}") from None
