# SPDX-License-Identifier: Apache-2.0
"""Checks of the files of a table: that they exist, lie in the folder, and are in one split."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Hashable, Iterable
from functools import cache
from pathlib import Path
from typing import Callable

from ....files import sha256
from .table import ImageTable

_MOVED = "if the images were moved, name their"
_SAMPLE = 4096  # bytes that are compared before whole files are


def check_files(table: ImageTable, inside: bool) -> None:
    """Raise an OSError for a file that is missing, a ValueError for one outside of the folder.

    ``inside`` is whether links must stay in the folder. The files of a run may be anywhere, and may
    have been moved since.
    """
    root = os.path.realpath(table.images.root)
    is_inside = cache(
        lambda path: Path(root) in (Path(real := os.path.realpath(path)), *Path(real).parents)
    )
    for index in range(len(table)):
        path = table.images.path(index)
        if not path.exists():
            hint = "correct it, or name the images'" if inside else _MOVED
            raise FileNotFoundError(
                f"{table.where(index)} names {path}, which does not exist; {hint} folder: "
                "`image_dir`"
            )
        if inside and not is_inside(path if path.is_symlink() else path.parent):
            raise ValueError(
                f"{table.where(index)} names {path}, a link to {os.path.realpath(path)}, which is "
                f"outside of {table.images.root}; copy the image into the folder"
            )


def duplicates(table: ImageTable) -> list[tuple[int, int]]:
    """Return pairs of indices of files with the same content in different splits.

    Each file is in at most one pair, with the first file of its content. Few files are read as a
    whole: those that agree in size and in some bytes.
    """
    paths = [table.images.path(index) for index in range(len(table))]
    keys: tuple[Callable[[Path], Hashable], ...] = (_size, _sample, sha256)
    parts: list[list[int]] = [list(range(len(table)))]
    for key in keys:
        parts = [
            same
            for part in parts
            for same in _group(part, lambda index: key(paths[index]))  # noqa: B023 - used at once
            if len({table.splits[index] for index in same}) > 1
        ]
    return [
        (part[0], index)
        for part in parts
        for index in part[1:]
        if table.splits[index] != table.splits[part[0]]
    ]


def _group(indices: Iterable[int], key: Callable[[int], Hashable]) -> Iterable[list[int]]:
    found: defaultdict[Hashable, list[int]] = defaultdict(list)
    for index in indices:
        found[key(index)].append(index)
    return found.values()


def _size(path: Path) -> int:
    return path.stat().st_size


def _sample(path: Path) -> bytes:
    """Return the hash of some bytes from the middle of a file."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size // 2 - _SAMPLE // 2))
        return hashlib.sha256(file.read(_SAMPLE)).digest()
