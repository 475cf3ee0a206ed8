# SPDX-License-Identifier: Apache-2.0
"""Read the rows of a CSV file, with their places for messages."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ....errors import in_one_line


class Row(NamedTuple):
    """A row of the file: its place for messages, its number, and the cells by column."""

    place: str
    number: int
    cells: dict[str, str]

    def error(self, message: str) -> ValueError:
        """Return the error of a message that begins with the place."""
        return ValueError(f"{self.place} {in_one_line(message, 400)}")


def read_rows(path: Path, verbatim: str, errors: str = "strict") -> tuple[list[str], list[Row]]:
    """Return the header and all rows that are not empty, without blanks around cells.

    The column ``verbatim`` keeps its blanks.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; name a .csv file or a folder of class folders")
    reader = csv.reader(io.StringIO(_read_text(path, errors), newline=""), strict=True)
    lines = _lines(path, reader)
    first = next(lines, None)
    if first is None:
        raise ValueError(f"{path} is empty; its first row names the columns, such as path,label")
    header = [name.strip() for name in first[1]]
    twice = sorted(name for name, count in Counter(header).items() if count > 1)
    if twice:
        name = in_one_line(repr(twice[0]))
        raise ValueError(f"{path} row 1 has two columns {name}; rename one")
    rows = []
    for number, cells in lines:
        place = f"{path} row {number}"
        if len(cells) != len(header):
            raise ValueError(f"{place} has {len(cells)} cells, the header has {len(header)}")
        texts = {
            name: text if name == verbatim else text.strip() for name, text in zip(header, cells)
        }
        rows.append(Row(place, number, texts))
    if not rows:
        raise ValueError(f"{path} has a header but no rows")
    return header, rows


def _lines(path: Path, reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Yield number and cells of the rows that are not empty."""
    number = 0
    try:
        for number, cells in enumerate(reader, 1):
            if any(map(str.strip, cells)):
                yield number, cells
    except csv.Error as error:
        raise ValueError(f"{path} row {number + 1} is not CSV: {error}") from None


def _read_text(path: Path, errors: str) -> str:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        row = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path} row {row} is not UTF-8 (byte 0x{data[error.start]:02x}); save the file as "
            "CSV UTF-8"
        ) from None
    if "\0" in text:
        row = text.count("\n", 0, text.index("\0")) + 1
        raise ValueError(f"{path} row {row} has a NUL byte; save the file as CSV UTF-8")
    return text


def read_path(row: Row, column: str) -> str:
    """Return the path of a row, normalized; raise a ValueError for one that leaves the folder."""
    name = row.cells[column]
    if not name.strip():
        raise row.error(f"has no path in column {column!r}")
    if len(name.splitlines()) > 1:
        raise row.error(f"has a line break in the path {name!r}")
    normal = os.path.normpath(name)
    if os.path.isabs(name):
        raise row.error(f"has the absolute path {name}; paths are relative to the image folder")
    if normal.split(os.sep)[0] == os.pardir:
        raise row.error(f"has the path {name}, which leaves the image folder")
    return normal
