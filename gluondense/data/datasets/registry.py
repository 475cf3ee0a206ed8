"""The table of known data sets, and the function that loads their arrays."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Callable, Optional, Union

import numpy as np

from ...errors import check_known
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
    summary
        One-line description.
    """

    name: str
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    summary: str

    @property
    def in_channels(self) -> int:
        """Number of channels: 1 for grey images, 3 for RGB."""
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

    def read_test_images(self, indices: Indices, size: tuple[int, int]) -> np.ndarray:
        """Copy some test images, uint8 (n, H, W, C); ``size`` is ignored."""
        return self.test_images[np.asarray(indices, int)]


DATASETS: Mapping[str, DatasetInfo] = {
    info.name: info
    for info in (
        DatasetInfo(
            name="fashion_mnist",
            class_names=fashion_mnist.CLASS_NAMES,
            image_size=(28, 28),
            mean=(0.28604,),
            std=(0.35302,),
            summary="Fashion-MNIST: 60,000 + 10,000 grey 28×28 images of clothing, 10 classes.",
        ),
        DatasetInfo(
            name="digits",
            class_names=tuple("0123456789"),
            image_size=(8, 8),
            mean=(0.30516,),
            std=(0.37486,),
            summary="scikit-learn's digits: 1,500 + 297 grey 8×8 handwritten digits; no download.",
        ),
        DatasetInfo(
            name="cifar10",
            class_names=cifar.CIFAR10_CLASSES,
            image_size=(32, 32),
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2470, 0.2435, 0.2616),
            summary="CIFAR-10: 50,000 + 10,000 RGB 32×32 photographs, 10 classes.",
        ),
        DatasetInfo(
            name="cifar100",
            class_names=cifar.CIFAR100_CLASSES,
            image_size=(32, 32),
            mean=(0.5071, 0.4865, 0.4409),
            std=(0.2673, 0.2564, 0.2762),
            summary="CIFAR-100: 50,000 + 10,000 RGB 32×32 photographs, 100 classes.",
        ),
        DatasetInfo(
            name="svhn",
            class_names=tuple("0123456789"),
            image_size=(32, 32),
            mean=(0.4377, 0.4438, 0.4728),
            std=(0.1980, 0.2010, 0.1970),
            summary="SVHN: 73,257 (and 531,131) + 26,032 RGB 32×32 house numbers' digits.",
        ),
        DatasetInfo(
            name="synthetic",
            class_names=synthetic.CLASS_NAMES,
            image_size=(32, 32),
            mean=(0.5, 0.5, 0.5),
            std=(0.25, 0.25, 0.25),
            summary="Noisy colour patterns: 200 + 50 RGB 32×32 images, 5 classes; for tests.",
        ),
        DatasetInfo(
            name="imagenet",
            class_names=(),  # read from its files
            image_size=(224, 224),
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            summary="Images in class folders or RecordIO files, in ImageNet's layout.",
        ),
    )
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

IN_MEMORY = tuple(_READERS)  # the names that load_dataset accepts


def load_dataset(
    name: str,
    data_dir: PathLike | None = None,
    download: bool = True,
    root: PathLike | None = None,
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
            f"{name} does not fit into memory; use `gluondense train imagenet` or "
            "gluondense.data.datasets.imagenet.open_images"
        )
    return ImageArrays(DATASETS[name], *_READERS[name](data_dir, download, root))
