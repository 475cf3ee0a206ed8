# SPDX-License-Identifier: Apache-2.0
"""Read boxes from a CSV file: a row each, with the path of its image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ...errors import in_one_line
from ..datasets.folder.csv_file import read_split_name
from ..datasets.folder.rows import Row, read_path, read_rows
from .annotations import (
    BadAnnotation,
    RawBox,
    RawImage,
    Size,
    check_split,
    is_coordinate,
    to_number,
)

# The names that a column may have. TensorFlow's and Kaggle's files have the later ones.
COLUMNS = {
    "path": ("path", "filename", "image"),
    "x1": ("x1", "xmin"),
    "y1": ("y1", "ymin"),
    "x2": ("x2", "xmax"),
    "y2": ("y2", "ymax"),
    "class": ("class", "label"),
    "split": ("split",),
    "difficult": ("difficult",),
    "width": ("width",),
    "height": ("height",),
}
_CORNERS = ("x1", "y1", "x2", "y2")
_REQUIRED = ("path", *_CORNERS, "class")


@dataclass(frozen=True)
class CSVBoxes:
    """A CSV file of boxes, see :class:`.annotations.Reader`.

    Its first row names the columns, see ``COLUMNS``: ``path,x1,y1,x2,y2,class`` and optionally
    ``split``, ``difficult`` (1 or 0), and ``width`` and ``height`` of the image. Pixels count from
    0, and x2 and y2 are exclusive ends. A row whose corners and class are blank is an image without
    objects.

    Parameters
    ----------
    path
        The file.
    image_dir
        Folder that the paths are relative to.
    """

    path: Path
    image_dir: Path

    class_names = None  # only the objects name them

    @property
    def origin(self) -> str:
        """The file in messages."""
        return str(self.path)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits in the column ``split``; () without it."""
        found = {split for split, _ in self._images.values()}
        return tuple(sorted(found - {""}))

    def read(self, split: str) -> Iterator[RawImage | BadAnnotation]:
        """Read the images of a split in the order of their first rows; ``""`` is all images."""
        if split:
            check_split(self, split)
        for name, (own_split, rows) in self._images.items():
            if not split or own_split in split.split("+"):
                yield self._read(name, rows)

    @cached_property
    def _columns(self) -> dict[str, str]:
        """The file's name of each column that it has."""
        header, _ = self._rows
        columns = {
            kind: next((name for name in names if name in header), "")
            for kind, names in COLUMNS.items()
        }
        for kind in _REQUIRED:
            if not columns[kind]:
                known = in_one_line(", ".join(header))
                names = " or ".join(map(repr, COLUMNS[kind]))
                raise ValueError(
                    f"{self.path} row 1 has no column {names} (its columns: {known}); rename one"
                )
        return {kind: name for kind, name in columns.items() if name}

    @cached_property
    def _rows(self) -> tuple[list[str], list[Row]]:
        return read_rows(self.path, "path")

    @cached_property
    def _images(self) -> dict[str, tuple[str, list[Row]]]:
        """Split and rows of each image by its path."""
        images: dict[str, tuple[str, list[Row]]] = {}
        columns = self._columns
        for row in self._rows[1]:
            name = read_path(row, columns["path"])
            split = read_split_name(row, columns["split"]) if "split" in columns else ""
            known, rows = images.setdefault(name, (split, []))
            if split != known:
                raise row.error(
                    f"has {name} in split {split}, row {rows[0].number} has it in {known}; use one"
                )
            rows.append(row)
        return images

    def _read(self, name: str, rows: list[Row]) -> RawImage | BadAnnotation:
        try:
            boxes = [self._box(row) for row in rows if self._has_box(row)]
            size = self._size(rows[0])
        except ValueError as error:
            return BadAnnotation(str(error))
        return RawImage(self.image_dir / name, size, boxes, self.origin)

    def _has_box(self, row: Row) -> bool:
        return any(row.cells[self._columns[kind]] for kind in (*_CORNERS, "class"))

    def _box(self, row: Row) -> RawBox:
        x1, y1, x2, y2 = (self._number(row, kind) for kind in _CORNERS)
        name = row.cells[self._columns["class"]]
        if not name:
            raise row.error(f"has no class in column {self._columns['class']!r}; write one")
        difficult = row.cells.get(self._columns.get("difficult", ""), "") == "1"
        return RawBox(name, (x1, y1, x2, y2), difficult, f"row {row.number}")

    def _size(self, row: Row) -> Size | None:
        if "width" not in self._columns or "height" not in self._columns:
            return None
        height, width = (int(self._number(row, kind)) for kind in ("height", "width"))
        return (height, width) if height >= 1 and width >= 1 else None

    def _number(self, row: Row, kind: str) -> float:
        text = row.cells[self._columns[kind]]
        number = to_number(text)
        if not is_coordinate(number):
            text = in_one_line(repr(text), 40)
            raise row.error(f"has {text} in column {self._columns[kind]!r}; write a number")
        return number
