# SPDX-License-Identifier: Apache-2.0
"""Read CIFAR-10 and CIFAR-100 from the files of their binary versions.

References
----------
Krizhevsky: "Learning Multiple Layers of Features from Tiny Images",
https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...download.file import cache_folder
from ...errors import in_one_line

_PIXELS = 3 * 32 * 32

_TEN = "airplane automobile bird cat deer dog frog horse ship truck"
_HUNDRED = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus "
    "butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch "
    "crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo "
    "keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse "
    "mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy "
    "porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper "
    "snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television "
    "tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm"
)
CIFAR10_CLASSES = tuple(_TEN.split())
CIFAR100_CLASSES = tuple(_HUNDRED.split())


@dataclass(frozen=True)
class _Files:
    """The files of a data set.

    A record is ``labels`` bytes, the last of which is the class, and then the pixels (3, 32, 32).
    """

    name: str
    folder: str
    archive: str
    train: tuple[str, ...]
    test: str
    labels: int
    classes: int


_BATCHES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
CIFAR10 = _Files(
    "CIFAR-10", "cifar-10-batches-bin", "cifar-10-binary.tar.gz", _BATCHES, "test_batch.bin", 1, 10
)
CIFAR100 = _Files(
    "CIFAR-100", "cifar-100-binary", "cifar-100-binary.tar.gz", ("train.bin",), "test.bin", 2, 100
)


def load(
    files: _Files,
    data_dir: str | os.PathLike[str] | None = None,
    root: str | os.PathLike[str] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return images uint8 (N, 32, 32, 3) and labels int32 (N,): training, then test.

    ``data_dir`` contains the ``.bin`` files, their folder, or its archive; ``root`` is that of
    :func:`gluondense.data.load_dataset`, which lists the errors too.
    """
    if data_dir is None:
        data_dir = cache_folder("datasets", root) / files.name.lower().replace("-", "")
    folder = Path(data_dir)
    train = [_read(folder, name, files) for name in files.train]
    test_images, test_labels = _read(folder, files.test, files)
    images, labels = (np.concatenate(column) for column in zip(*train))
    return images, labels, test_images, test_labels


def _read(folder: Path, name: str, files: _Files) -> tuple[np.ndarray, np.ndarray]:
    content = np.frombuffer(_read_bytes(folder, name, files), np.uint8)
    length = files.labels + _PIXELS
    if not len(content) or len(content) % length:
        raise ValueError(
            f"{name} of {folder} is truncated: {len(content)} bytes are not a multiple of {length},"
            f" the record size of {files.name}; get it again"
        )
    rows = content.reshape(-1, length)
    labels = rows[:, files.labels - 1].astype(np.int32)
    if labels.max() >= files.classes:
        raise ValueError(
            f"{name} of {folder} is not from {files.name}'s binary version: it has the label "
            f"{labels.max()}; get it again"
        )
    images = rows[:, files.labels :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels


def _read_bytes(folder: Path, name: str, files: _Files) -> bytes:
    for path in (folder / name, folder / files.folder / name):
        if path.is_file():
            return path.read_bytes()
    archive = folder / files.archive
    if archive.is_file():
        try:
            with tarfile.open(archive) as tar:
                member = tar.extractfile(f"{files.folder}/{name}")
                if member is not None:
                    return member.read()
        except Exception as error:  # tarfile and gzip raise many types for a damaged archive
            raise ValueError(f"{archive} is damaged ({in_one_line(error)}); get it again") from None
    raise FileNotFoundError(
        f"{folder} lacks {name}; get {files.archive} from www.cs.toronto.edu/~kriz/cifar.html and "
        "give its folder as `data_dir`"
    )
