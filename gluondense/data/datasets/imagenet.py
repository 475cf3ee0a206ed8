# SPDX-License-Identifier: Apache-2.0
"""ImageNet, or any labelled images in its layout: class folders or RecordIO files."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...environment.process import import_gluoncv
from ...files import name_as_text
from ..files.image_list import ImageList, list_flat, list_folders
from ..files.sources import FolderSource, RecordSource, Source, record_class_names
from ..preprocessing import Preprocessing
from .ground_truth import GROUND_TRUTH_FILES, find_ground_truth, read_ground_truth
from .registry import DATASETS, DatasetInfo, Indices

_KAGGLE = Path("ILSVRC/Data/CLS-LOC")


@dataclass(frozen=True)
class ImageFiles:
    """A data set of encoded images, which are decoded when they are needed."""

    info: DatasetInfo  # the row of DATASETS with the class names of these files
    train: Source | None  # None if the data set was opened for evaluation only
    test: Source

    @property
    def train_count(self) -> int:
        """Number of training images."""
        return len(self.train) if self.train is not None else 0

    @property
    def test_count(self) -> int:
        """Number of test images."""
        return len(self.test)

    @property
    def train_labels(self) -> np.ndarray | None:
        """The labels of the training images, (N,); None if only the files' contents have them."""
        return self.train.images.labels if isinstance(self.train, FolderSource) else None

    def read_test_images(self, indices: Indices, preprocessing: Preprocessing) -> np.ndarray:
        """Decode the pixels of some test images that a network gets, see :func:`decode_images`."""
        return decode_images(self.test, indices, preprocessing)


class Encoded(Protocol):
    """What has encoded images, with labels or with boxes."""

    def read(self, index: int) -> tuple[bytes, Any, str]:
        """Return the bytes, the label and the name of an image."""


def decode_images(source: Encoded, indices: Indices, preprocessing: Preprocessing) -> np.ndarray:
    """Decode the pixels that a network gets, uint8 (n, H, W, C); unreadable images are black."""
    images = np.zeros((len(indices), *preprocessing.size, preprocessing.channels), np.uint8)
    for row, index in enumerate(indices):
        pixels = decode_image(source, int(index), preprocessing)
        if pixels is not None:
            images[row] = pixels
    return images


def decode_image(source: Encoded, index: int, preprocessing: Preprocessing) -> np.ndarray | None:
    """Decode the pixels that a network gets, uint8 (H, W, C); None for an unreadable image."""
    try:
        data, _, name = source.read(index)
        return preprocessing.pixels(data, name)
    except (ValueError, OSError):
        return None


def open_images(
    data_dir: str | os.PathLike[str] | None = None,
    rec_train: str | os.PathLike[str] | None = None,
    rec_val: str | os.PathLike[str] | None = None,
    ground_truth: str | os.PathLike[str] | None = None,
    training: bool = True,
) -> ImageFiles:
    """Open images for training and evaluation without decoding any; both have the same classes.

    Parameters
    ----------
    data_dir
        Folder with ``train`` and ``val``, or Kaggle's with ``ILSVRC``. ``val`` may be flat.
    rec_train, rec_val
        RecordIO files, used instead of ``data_dir``.
    ground_truth
        Labels of a flat ``val``. None looks for the ``GROUND_TRUTH_FILES`` in the folders.
    training
        Whether to open the training images too.
    """
    if rec_val is not None or rec_train is not None:
        if rec_val is None or (training and rec_train is None):
            missing = "rec_val" if rec_val is None else "rec_train"
            raise ValueError(f"{missing} is missing: RecordIO files come as a pair")
        return _open_records(rec_train, rec_val, training)
    if data_dir is None:
        raise ValueError("name a data_dir with train and val, or rec_train and rec_val")
    root = Path(data_dir).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}; it must have train and val")
    base = root / _KAGGLE if (root / _KAGGLE).is_dir() else root
    train = list_folders(base / "train") if training or (base / "train").is_dir() else None
    known = train.class_names if train is not None else None
    ground_truth = ground_truth or find_ground_truth(base / "val", base, root)
    test = list_validation(base / "val", known, ground_truth)
    info = _with_classes(readable(test.class_names))
    return ImageFiles(info, FolderSource(train) if train and training else None, FolderSource(test))


def list_validation(
    root: str | os.PathLike[str],
    class_names: tuple[str, ...] | None,
    ground_truth: str | os.PathLike[str] | None,
) -> ImageList:
    """List the images of a validation folder, which has class folders or is flat.

    Parameters
    ----------
    root
        The folder.
    class_names
        The classes of the training set in the order of their labels. None means the names of the
        class folders or of the ground truth, sorted.
    ground_truth
        Labels of a flat folder, see :func:`.ground_truth.read_ground_truth`.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root} with the validation images")
    with os.scandir(root) as entries:
        in_folders = any(entry.is_dir() for entry in entries)
    if in_folders:
        images = list_folders(root, class_names)
        missing = set(range(len(images.class_names))) - set(images.labels.tolist())
        if missing:
            name = images.class_names[min(missing)]
            raise ValueError(
                f"{root} has no images of {len(missing)} of {len(images.class_names)} classes "
                f"({name}{', …' * (len(missing) > 1)}); training and validation need the same "
                "classes"
            )
        return images
    if ground_truth is None:
        forms = ", ".join(GROUND_TRUTH_FILES[:1] + GROUND_TRUTH_FILES[3:])
        raise FileNotFoundError(
            f"{root} is flat and has no ground truth beside it: give `ground_truth`, one of {forms}"
        )
    names, labels = list_flat(root, read_ground_truth(ground_truth))
    if isinstance(labels[0], int):
        classes = class_names or tuple(map(str, range(max(labels) + 1)))
    else:
        classes = class_names or tuple(sorted(set(labels)))
        known = {name: label for label, name in enumerate(classes)}
        unknown = sorted(set(labels) - known.keys())
        if unknown:
            raise ValueError(f"{ground_truth} names {unknown[0]}, which is not one of the classes")
        labels = [known[name] for name in labels]
    if max(labels) >= len(classes):
        raise ValueError(f"{ground_truth} has the label {max(labels)} of {len(classes)} classes")
    return ImageList(root, names, np.array(labels, np.int64), classes)


def readable(class_names: tuple[str, ...]) -> tuple[str, ...]:
    """Replace ImageNet's wnids with words; leave other names as they are, in UTF-8.

    Examples
    --------
    >>> readable(("n01440764", "n02012849")), readable(("cat", "dog"))
    (('tench', 'crane n02012849'), ('cat', 'dog'))
    """
    class_names = tuple(map(name_as_text, class_names))
    if not all(name[:1] == "n" and name[1:].isdigit() for name in class_names):
        return class_names
    known = import_gluoncv().data.ImageNet1kAttr()
    words = dict(zip(known.synset, known.classes))
    return tuple(
        name
        if name not in words
        else f"{words[name]} {name}"
        if known.classes.count(words[name]) > 1
        else words[name]
        for name in class_names
    )


def unique_names(class_names: tuple[str, ...]) -> tuple[str, ...]:
    """Replace GluonCV's names of ImageNet's classes, two of them "crane", as ``readable`` does."""
    if len(set(class_names)) == len(class_names):
        return class_names
    known = import_gluoncv().data.ImageNet1kAttr()
    return readable(tuple(known.synset)) if list(class_names) == known.classes else class_names


def _open_records(
    rec_train: str | os.PathLike[str] | None, rec_val: str | os.PathLike[str], training: bool
) -> ImageFiles:
    found = [record_class_names(path) for path in (rec_train, rec_val) if path is not None]
    named = [names for names in found if names and not all(map(str.isdigit, names))]
    if len(named) == 2 and named[0] != named[1]:
        raise ValueError(
            f"{rec_train} and {rec_val} have different classes (their .classes.txt differ); "
            "make the second with `gluondense make-recordio --classes-of` the first one's folder"
        )
    # Without names, the larger number of classes holds for both files; without any information the
    # data set is ImageNet.
    classes = named[0] if named else max((names for names in found if names), key=len, default=())
    names = readable(classes) if classes else tuple(map(str, range(1000)))
    train = RecordSource(rec_train) if training and rec_train is not None else None
    return ImageFiles(_with_classes(names), train, RecordSource(rec_val))


def _with_classes(class_names: tuple[str, ...]) -> DatasetInfo:
    return replace(DATASETS["imagenet"], class_names=class_names)
