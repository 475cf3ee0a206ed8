"""Pictures from a folder or a RecordIO file, as one array."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import mxnet as mx
import numpy as np
from PIL import Image

from .image import decode_image, read_image


def read_pictures(
    path: str | os.PathLike[str], channels: int, size: tuple[int, int], count: int
) -> np.ndarray:
    """Read some pictures as uint8 (N, H, W, C), each scaled as :func:`read_image` does.

    Parameters
    ----------
    path
        A folder, whose pictures may lie in folders of their own, or a RecordIO file ``*.rec`` as
        ``im2rec`` writes it. They are taken evenly from all of them in the order of their names; of
        a RecordIO file without its ``.idx``, the first ones.
    channels
        1 for grey or 3 for RGB.
    size
        Height and width of the result.
    count
        How many to read at most.

    Raises
    ------
    FileNotFoundError
        If there is nothing at the path.
    ValueError
        If there are no pictures, or one is not readable.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("a.png", "b.png", "c.png"):
    ...         Image.new("L", (40, 30)).save(f"{folder}/{name}")
    ...     read_pictures(folder, 3, (8, 8), count=2).shape
    (2, 8, 8, 3)
    """
    path = Path(path)
    if path.is_dir():
        known = Image.registered_extensions()
        files = sorted(
            file for file in path.rglob("*") if file.suffix.lower() in known and file.is_file()
        )
        pictures = [read_image(files[index], channels, size) for index in spread(len(files), count)]
    elif not path.is_file():
        raise FileNotFoundError(f"no pictures at {path}: name a folder or a .rec file.")
    elif path.suffix != ".rec":
        raise ValueError(f"{path} is neither a folder of pictures nor a RecordIO file (.rec).")
    else:
        pictures = [
            decode_image(io.BytesIO(data), f"{path} (record {number})", channels, size)
            for number, data in _records(path, count)
        ]
    if not pictures:
        raise ValueError(f"there are no pictures in {path}.")
    return np.stack(pictures)


def spread(length: int, count: int) -> list[int]:
    """Choose places of a sequence, all of them or as many as wanted at equal distances.

    Examples
    --------
    >>> spread(3, 5), spread(10, 4)
    ([0, 1, 2], [0, 2, 5, 7])
    """
    count = min(length, count)
    return [index * length // count for index in range(count)]


def _records(path: Path, count: int) -> Iterator[tuple[int, bytes]]:
    """Read numbers of records and the pictures in them, still encoded."""
    index = path.with_suffix(".idx")
    try:
        if index.is_file():
            indexed = mx.recordio.MXIndexedRecordIO(str(index), str(path), "r")
            keys = [indexed.keys[place] for place in spread(len(indexed.keys), count)]
            records = [(key, indexed.read_idx(key)) for key in keys]
            indexed.close()
        else:
            plain = mx.recordio.MXRecordIO(str(path), "r")
            records = list(zip(range(count), iter(plain.read, None)))
            plain.close()
        for number, record in records:
            yield number, mx.recordio.unpack(record)[1]
    except (mx.base.MXNetError, ValueError, TypeError, OverflowError) as error:
        reason = " ".join(str(error).split())[-120:]
        raise ValueError(f"{path} is not a sound RecordIO file ({reason}).") from None
