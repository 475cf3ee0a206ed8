# SPDX-License-Identifier: Apache-2.0
"""Read the images of a folder or a RecordIO file into one array."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ..preprocessing import Preprocessing
from .recordio import RecordFile, read_first


def read_images(
    path: str | os.PathLike[str], preprocessing: Preprocessing, count: int
) -> np.ndarray:
    """Read up to ``count`` images as the pixels that a network gets, uint8 (N, H, W, C).

    ``path`` is a folder, searched recursively, or a RecordIO file ``*.rec``. The images are
    selected at equal distances from all of them, sorted by name. Of a RecordIO file without its
    ``.idx``, the first ones are read.

    Examples
    --------
    >>> import tempfile
    >>> from gluondense.data.preprocessing import IMAGENET
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("a.png", "b.png", "c.png"):
    ...         Image.new("L", (40, 30)).save(f"{folder}/{name}")
    ...     read_images(folder, IMAGENET, count=2).shape
    (2, 224, 224, 3)
    """
    path = Path(path)
    if path.is_dir():
        known = Image.registered_extensions()
        files = sorted(
            file for file in path.rglob("*") if file.suffix.lower() in known and file.is_file()
        )
        chosen = evenly_spaced(len(files), count)
        images = [preprocessing.pixels(files[index]) for index in chosen]
    elif not path.is_file():
        raise FileNotFoundError(f"no images at {path}: name a folder or a .rec file.")
    elif path.suffix != ".rec":
        raise ValueError(f"{path} is neither a folder of images nor a RecordIO file (.rec).")
    else:
        images = [
            preprocessing.pixels(data, f"{path} (record {key})")
            for key, data in _read_records(path, count)
        ]
    if not images:
        raise ValueError(f"there are no images in {path}.")
    return np.stack(images)


def evenly_spaced(length: int, count: int) -> list[int]:
    """Return up to ``count`` indices of a sequence, at equal distances.

    Examples
    --------
    >>> evenly_spaced(3, 5), evenly_spaced(10, 4)
    ([0, 1, 2], [0, 2, 5, 7])
    """
    count = min(length, count)
    return [index * length // count for index in range(count)]


def _read_records(path: Path, count: int) -> Iterator[tuple[int, bytes]]:
    """Yield the keys and the encoded images of some records."""
    if not path.with_suffix(".idx").is_file():
        yield from enumerate(read_first(path, count))
        return
    file = RecordFile(path)
    for index in evenly_spaced(len(file), count):
        yield int(file.keys[index]), file.read_data(index)
