"""Find, download, verify and read the four idx files of Fashion-MNIST.

References
----------
Xiao, Rasul, Vollgraf: "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms", https://arxiv.org/abs/1708.07747, https://github.com/zalandoresearch/fashion-mnist
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ...download.file import cache_folder, download_file
from ..files.idx import parse_idx, read_idx, unpack

__all__ = ["CLASS_NAMES", "FILES", "MIRRORS", "load", "read_idx"]

_NAMES = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
CLASS_NAMES = tuple(_NAMES.split(","))


@dataclass(frozen=True)
class IdxFile:
    """One of the official files.

    Parameters
    ----------
    name
        File name without ``.gz``.
    shape
        Shape of the array.
    md5, sha1
        Checksums of the gzipped file: zalando's, and that of MXNet, which compressed it again.
    sha256
        Checksum of the decompressed content.
    """

    name: str
    shape: tuple[int, ...]
    md5: str
    sha1: str
    sha256: str


FILES = (
    IdxFile(
        "train-images-idx3-ubyte",
        (60000, 28, 28),
        md5="8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        sha1="0cf37b0d40ed5169c6b3aba31069a9770ac9043d",
        sha256="c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    IdxFile(
        "train-labels-idx1-ubyte",
        (60000,),
        md5="25c81989df183df01b3e8a0aad5dffbe",
        sha1="236021d52f1e40852b06a4c3008d8de8aef1e40b",
        sha256="bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    IdxFile(
        "t10k-images-idx3-ubyte",
        (10000, 28, 28),
        md5="bef4ecab320f06d8554ea6380940ec79",
        sha1="626ed6a7c06dd17c0eec72fa3be1740f146a2863",
        sha256="5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    IdxFile(
        "t10k-labels-idx1-ubyte",
        (10000,),
        md5="bb300cfdad3c16e7a12a480ee83cd310",
        sha1="17f9ab60e7257a1620f4ad76bbbaf857c3920701",
        sha256="0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
)

# Plain http is safe here because the checksum of every file is verified.
MIRRORS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/gluon/dataset/fashion-mnist/",
)

_ADVICE = (
    "get the four files from https://github.com/zalandoresearch/fashion-mnist"
    " and give their folder as --data-dir"
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
    if data_dir is not None:
        paths = _find(Path(data_dir))
    else:
        paths = _cached(cache_folder("datasets", root) / "fashion-mnist", download)
    train_images, train_labels, test_images, test_labels = (
        _read(path, row) for path, row in zip(paths, FILES)
    )
    return train_images, train_labels, test_images, test_labels


def _locate(folder: Path, row: IdxFile) -> Path | None:
    """Return the path of a file in a folder, gzipped or not; None if it is missing."""
    names = (row.name + ".gz", row.name)
    candidates = (parent / name for parent in (folder, folder / "raw") for name in names)
    return next((path for path in candidates if path.is_file()), None)


def _find(folder: Path) -> list[Path]:
    """Return the paths of the four files in a folder.

    Raises
    ------
    FileNotFoundError
        If the folder or one of the files is missing.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}; {_ADVICE}")
    found = [(_locate(folder, row), row) for row in FILES]
    missing = [f"{row.name}.gz" for path, row in found if path is None]
    if missing:
        raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}; {_ADVICE}")
    return [path for path, _ in found if path is not None]


def _cached(folder: Path, download: bool) -> list[Path]:
    """Return the paths of the four files in the cache; download missing and damaged ones."""
    if not download:
        return _find(folder)
    paths = []
    for row in FILES:
        path = _locate(folder, row)
        if path is None or not _holds_official(path, row):
            path = folder / (row.name + ".gz")
            urls = [mirror + path.name for mirror in MIRRORS]
            download_file(urls, path, partial(_holds_official, row=row), _ADVICE)
        paths.append(path)
    return paths


def _read(path: Path, row: IdxFile) -> np.ndarray:
    """Read and verify one file; images get a channel axis, labels become int32."""
    content = path.read_bytes()
    unpacked = unpack(content, str(path))
    array = parse_idx(unpacked, str(path))
    if not _is_official(content, row, unpacked):
        raise ValueError(f"{path} {_difference(array, unpacked, row)}; {_ADVICE}")
    return array[..., None] if array.ndim == 3 else array.astype(np.int32)


def _holds_official(path: Path, row: IdxFile) -> bool:
    return _is_official(path.read_bytes(), row)


def _is_official(content: bytes, row: IdxFile, unpacked: bytes | None = None) -> bool:
    """Return whether a file's content, gzipped or decompressed, has a known checksum."""
    if hashlib.md5(content).hexdigest() == row.md5 or hashlib.sha1(content).hexdigest() == row.sha1:
        return True
    if unpacked is None:
        try:
            unpacked = unpack(content, row.name)
        except ValueError:
            return False
    return hashlib.sha256(unpacked).hexdigest() == row.sha256


def _difference(array: np.ndarray, unpacked: bytes, row: IdxFile) -> str:
    """Describe how a valid idx file differs from the official one."""
    digest = hashlib.sha256(unpacked).hexdigest()
    for other in FILES:
        if digest == other.sha256:
            return f"has the content of {other.name}: the files are swapped"
    if array.shape != row.shape:
        return f"has an array {array.shape} where Fashion-MNIST has {row.shape}"
    if array.ndim == 1 and array.max() >= len(CLASS_NAMES):
        return f"has the label {array.max()} where Fashion-MNIST has 0 to {len(CLASS_NAMES) - 1}"
    return f"is not Fashion-MNIST's: its content has SHA-256 {digest[:8]}…, not {row.sha256[:8]}…"
