# SPDX-License-Identifier: Apache-2.0
"""The table of known data sets, and the function that loads their arrays."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Callable, Optional, Union

import numpy as np

from ...errors import check_known
from ..preprocessing import Preprocessing
from . import cifar, digits, fashion_mnist, svhn, synthetic

PathLike = Union[str, "os.PathLike[str]"]
Indices = Union[Sequence[int], np.ndarray]
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class DatasetInfo:
    """A row of ``DATASETS``: the facts about a data set that training and deployment need.

    Parameters
    ----------
    name
        Its key in ``DATASETS``.
    class_names
        The name of each label.
    image_size
        Height and width in pixels.
    mean, std
        Statistics per channel over the training pixels, scaled to [0, 1].
    counts
        Number of training images of each class; for multi-label data, of those where the label
        is 1. Empty if not counted.
    known
        For multi-label data: number of training images where each label is known. Else empty.
    """

    name: str
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    counts: tuple[int, ...] = ()
    known: tuple[int, ...] = ()

    @property
    def in_channels(self) -> int:
        """Number of channels: 1 for grayscale images, 3 for RGB."""
        return len(self.mean)


@dataclass(frozen=True)
class ImageArrays:
    """A data set in memory: images uint8 (N, H, W, C) and labels int32 (N,)."""

    info: DatasetInfo
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray

    @property
    def train_count(self) -> int:
        """Number of training images."""
        return len(self.train_labels)

    @property
    def test_count(self) -> int:
        """Number of test images."""
        return len(self.test_labels)

    def read_test_images(self, indices: Indices, preprocessing: Preprocessing) -> np.ndarray:
        """Copy some test images at their own size, uint8 (n, H, W, C)."""
        return self.test_images[np.asarray(indices, int)]


_DIGITS = tuple("0123456789")
_ROWS = (  # name, class names, side of the images, mean, std
    ("fashion_mnist", fashion_mnist.CLASS_NAMES, 28, (0.28604,), (0.35302,)),
    ("digits", _DIGITS, 8, (0.30516,), (0.37486,)),
    ("cifar10", cifar.CIFAR10_CLASSES, 32, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    ("cifar100", cifar.CIFAR100_CLASSES, 32, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    ("svhn", _DIGITS, 32, (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    ("synthetic", synthetic.CLASS_NAMES, 32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
    # The class names are read from the files.
    ("imagenet", (), 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ("folder", (), 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ("detection", (), 416, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
)
DATASETS: Mapping[str, DatasetInfo] = {
    name: DatasetInfo(name, classes, (side, side), mean, std)
    for name, classes, side, mean, std in _ROWS
}

# data_dir, download, root -> train images, train labels, test images, test labels
_READERS: Mapping[str, Callable[[Optional[PathLike], bool, Optional[PathLike]], Arrays]] = {
    "fashion_mnist": fashion_mnist.load,
    "digits": lambda data_dir, download, root: digits.load(),
    "cifar10": lambda data_dir, download, root: cifar.load(cifar.CIFAR10, data_dir, root),
    "cifar100": lambda data_dir, download, root: cifar.load(cifar.CIFAR100, data_dir, root),
    "svhn": lambda data_dir, download, root: svhn.load(data_dir, root),
    "synthetic": lambda data_dir, download, root: synthetic.load(),
}

_OPENERS = {
    "imagenet": "datasets.imagenet.open_images",
    "folder": "datasets.folder.open.open_folder",
    "detection": "detection.dataset.open_detection",
}
IN_MEMORY = tuple(_READERS)  # the names that load_dataset accepts


def load_dataset(
    name: str, data_dir: PathLike | None = None, download: bool = True, root: PathLike | None = None
) -> ImageArrays:
    """Return the arrays of one of the ``DATASETS``.

    Parameters
    ----------
    name
        A key of ``DATASETS``.
    data_dir
        Folder with the data set's files, which are only read. Embedded data sets ignore it.
    download
        Whether to download the files if ``data_dir`` is None and ``root`` does not contain them.
    root
        Folder of downloaded files; ``$MXNET_HOME/datasets`` by default, as for MXNet's data sets.

    Raises
    ------
    ValueError
        If the name is unknown or a file is malformed.
    FileNotFoundError
        If a folder or file is missing.
    ConnectionError
        If no mirror can be reached.

    Examples
    --------
    >>> load_dataset("synthetic").train_images.shape
    (200, 32, 32, 3)
    """
    check_known("data set", name, DATASETS)
    if name not in _READERS:
        raise ValueError(
            f"{name} is read from files; use `gluondense train {name}` or "
            f"gluondense.data.{_OPENERS[name]}"
        )
    return ImageArrays(DATASETS[name], *_READERS[name](data_dir, download, root))
