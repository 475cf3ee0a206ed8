# SPDX-License-Identifier: Apache-2.0
"""Find, download, verify and read the four idx files of Fashion-MNIST.

References
----------
Xiao, Rasul, Vollgraf: "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms", https://arxiv.org/abs/1708.07747, https://github.com/zalandoresearch/fashion-mnist
"""

from __future__ import annotations

import hashlib
import os
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...download.file import cache_folder, download_file
from ..files.idx import parse_idx, unpack

_NAMES = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
CLASS_NAMES = tuple(_NAMES.split(","))


class IdxFile(NamedTuple):
    """One of the official files: its name without ``.gz``, its shape, SHA-256 of its content."""

    name: str
    shape: tuple[int, ...]
    sha256: str


# Checksums of the decompressed files: MXNet has compressed them again.
_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
_SHAPES = ((60000, 28, 28), (60000,), (10000, 28, 28), (10000,))
FILES = tuple(IdxFile(name, shape, _SHA256[name]) for name, shape in zip(_SHA256, _SHAPES))

# Plain http is safe here because the checksum of every file is verified.
MIRRORS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/gluon/dataset/fashion-mnist/",
)

_ADVICE = (
    "get the four files from https://github.com/zalandoresearch/fashion-mnist"
    " and give their folder as `data_dir`"
)


def load(
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = True,
    root: str | os.PathLike[str] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return images uint8 (N, 28, 28, 1) and labels int32 (N,): training, then test.

    The parameters are those of ``gluondense.data.load_dataset``. The files may be gzipped or not
    and are searched for in the folder and in its ``raw`` (torchvision's layout). See
    ``gluondense.download`` for the environment variables that change a download.
    """
    folder = Path(data_dir or cache_folder("datasets", root) / "fashion-mnist")
    if data_dir is None and download:
        arrays = [_read_or_download(folder, row) for row in FILES]
    else:
        arrays = [_read(path, row) for path, row in zip(_find(folder), FILES)]
    train_images, train_labels, test_images, test_labels = arrays
    return train_images, train_labels, test_images, test_labels


def _locate(folder: Path, row: IdxFile) -> Path | None:
    """Return the path of a file in a folder, gzipped or not; None if it is missing."""
    names = (row.name + ".gz", row.name)
    candidates = (parent / name for parent in (folder, folder / "raw") for name in names)
    return next((path for path in candidates if path.is_file()), None)


def _find(folder: Path) -> list[Path]:
    """Return the paths of the four files in a folder."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}; {_ADVICE}")
    found = [(_locate(folder, row), row) for row in FILES]
    missing = [f"{row.name}.gz" for path, row in found if path is None]
    if missing:
        raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}; {_ADVICE}")
    return [path for path, _ in found if path is not None]


def _read_or_download(folder: Path, row: IdxFile) -> np.ndarray:
    """Read a file of the cache; download it if it is missing or damaged."""
    path = _locate(folder, row)
    if path is not None:
        try:
            return _read(path, row)
        except ValueError:
            pass
    path = folder / f"{row.name}.gz"
    urls = [mirror + path.name for mirror in MIRRORS]
    download_file(urls, path, partial(_is_official, row=row), _ADVICE)
    return _read(path, row)


def _read(path: Path, row: IdxFile) -> np.ndarray:
    """Read and verify one file; images get a channel axis, labels become int32."""
    content = unpack(path.read_bytes(), str(path))
    array = parse_idx(content, str(path))
    digest = hashlib.sha256(content).hexdigest()
    if digest != row.sha256:
        raise ValueError(f"{path} {_difference(array, digest, row)}; {_ADVICE}")
    return array[..., None] if array.ndim == 3 else array.astype(np.int32)


def _is_official(path: Path, row: IdxFile) -> bool:
    """Return whether the content of a file is the official one."""
    try:
        return hashlib.sha256(unpack(path.read_bytes(), row.name)).hexdigest() == row.sha256
    except ValueError:
        return False


def _difference(array: np.ndarray, digest: str, row: IdxFile) -> str:
    """Describe how a valid idx file differs from the official one."""
    for other in FILES:
        if digest == other.sha256:
            return f"has the content of {other.name}: the files are swapped"
    if array.shape != row.shape:
        return f"has an array {array.shape} where Fashion-MNIST has {row.shape}"
    if array.ndim == 1 and array.max() >= len(CLASS_NAMES):
        return f"has the label {array.max()} where Fashion-MNIST has 0 to {len(CLASS_NAMES) - 1}"
    return f"is not Fashion-MNIST's: its content has SHA-256 {digest[:8]}…, not {row.sha256[:8]}…"
