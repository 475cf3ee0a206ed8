# SPDX-License-Identifier: Apache-2.0
"""Open images with boxes for training and evaluation, in any of the known formats."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..datasets.imagenet import decode_images
from ..datasets.registry import DATASETS, DatasetInfo, Indices
from ..files.image import is_special
from ..preprocessing import Preprocessing
from .annotations import Annotations, BadAnnotation, RawImage, Reader, check_split
from .coco import COCO, find_files
from .csv_boxes import CSVBoxes
from .problems import Problem, Problems
from .source import DetectionSource
from .splits import (
    TEST,
    TRAIN,
    TRAIN_SPLITS,
    VAL,
    VALIDATION_SPLITS,
    SplitReader,
    first_of,
    found_names,
    resolve,
)
from .validation import validate
from .voc import VOC, voc_folders

_KNOWN = "a folder in VOC's layout, COCO's .json files or their folder, or a .csv file"


@dataclass(frozen=True)
class DetectionFiles:
    """A data set of encoded images with boxes, which are decoded when they are needed.

    Attributes
    ----------
    info
        Class names, normalization, and ``counts``: the training boxes of each class.
    train, test
        Training images, None if opened for evaluation only; and the evaluated images.
    part
        Name of the split of ``test``.
    reader
        Reads the other splits.
    problems
        The bad annotations of both.
    bad
        What happened to them, one of ``problems.BAD``.
    """

    info: DatasetInfo
    train: DetectionSource | None
    test: DetectionSource
    part: str
    reader: Reader
    problems: tuple[Problem, ...] = ()
    bad: str = "skip"

    @property
    def train_count(self) -> int:
        """Number of training images."""
        return len(self.train) if self.train is not None else 0

    @property
    def test_count(self) -> int:
        """Number of evaluated images."""
        return len(self.test)

    @property
    def train_labels(self) -> None:
        """None: an image has several labels."""
        return None

    def read_test_images(self, indices: Indices, preprocessing: Preprocessing) -> np.ndarray:
        """Decode the pixels of some test images that a network gets, uint8 (n, H, W, C)."""
        return decode_images(self.test, indices, preprocessing)

    def with_part(self, part: str) -> DetectionFiles:
        """Return the same data set with another split as ``test``, such as ``"test"``."""
        check_split(self.reader, part)
        problems = Problems(self.bad)
        origin, names = self.reader.origin, self.info.class_names
        test = _open_split(self.reader.read(part), origin, part, names, problems)
        problems.print()
        return replace(self, test=test, part=part, problems=tuple(problems.found))

    def summary(self) -> str:
        """Return the numbers of images, boxes and classes in words."""
        parts = [(TRAIN, self.train)] if self.train is not None else []
        parts.append((self.part, self.test))
        images = ", ".join(f"{len(part)} {name}".rstrip() for name, part in parts)
        boxes = sum(len(part.annotations.boxes) for _, part in parts)
        return f"{images} images with {boxes} boxes of {len(self.info.class_names)} classes"


def open_detection(
    data_dir: str | os.PathLike[str] | None,
    image_dir: str | os.PathLike[str] | None = None,
    *,
    train: str | None = None,
    val: str | None = None,
    bad: str = "skip",
    class_names: Sequence[str] | None = None,
    validation_share: float = 0.2,
    split_seed: int = 0,
    training: bool = True,
) -> DetectionFiles:
    """Open images with boxes without decoding any; bad annotations are printed.

    Parameters
    ----------
    data_dir
        A folder in VOC's layout, see :class:`.voc.VOC`; a ``.json`` file or a folder of them in
        COCO's format, see :func:`.coco.find_files`; or a ``.csv`` file, see
        :class:`.csv_boxes.CSVBoxes`.
    image_dir
        Folder of the images, if it is not the format's: beside a single file.
    train, val
        Names of the splits to train on and to evaluate, see :func:`.splits.resolve`. None finds
        them: ``train`` or else ``trainval``, and ``val`` or, where nothing is trained, else
        ``test``.
    bad
        What to do with bad annotations, see :class:`.problems.Problems`.
    class_names
        The classes in the order of their labels. None: those that the format lists, or else the
        sorted names in the training images.
    validation_share, split_seed
        Arguments of :func:`..datasets.folder.splitting.stratified_split`, which splits the training
        images if there is no validation split. A split ``test`` stays as it is.
    training
        Whether to open the training images too. If not, images without any split are all opened as
        ``test``, unless ``val`` names a part.

    Raises
    ------
    OSError
        If a folder or file is missing.
    ValueError
        If the annotations cannot be used; the message names the file.
    """
    reader = find_reader(data_dir, image_dir)
    problems = Problems(bad)
    split = validation_share, split_seed
    reader, train_split, test_split = _choose_splits(reader, train, val, training, *split)
    trained = test_split if train_split is None else train_split
    # Images of splits; those of both in one file are read together, because it may be large.
    read: dict[str, list[RawImage | BadAnnotation]] = {}
    if training and isinstance(reader, SplitReader):
        read = reader.parts()
    elif training:
        read[trained] = list(reader.read(trained))
    names = tuple(class_names or reader.class_names or ())
    if not names:
        if trained not in read:
            read[trained] = list(reader.read(trained))
        names = found_names(read[trained])
    opened = None
    if training:
        opened = _open_split(read[trained], reader.origin, train_split or "", names, problems)
    tested = read[test_split] if test_split in read else reader.read(test_split)
    test = _open_split(tested, reader.origin, test_split, names, problems)
    problems.print()
    if opened is not None:
        for name, part in ((train_split, opened), (test_split, test)):
            if not len(part.annotations.boxes):
                raise ValueError(f"split {name!r} of {reader.origin} has no usable box")
        _warn_of_overlap(opened.annotations, test.annotations)
    counts = tuple(opened.annotations.counts().tolist()) if opened is not None else ()
    info = replace(DATASETS["detection"], class_names=names, counts=counts)
    return DetectionFiles(info, opened, test, test_split, reader, tuple(problems.found), bad)


def find_reader(
    data_dir: str | os.PathLike[str] | None, image_dir: str | os.PathLike[str] | None = None
) -> Reader:
    """Return the reader of the format that ``data_dir`` has."""
    if data_dir is None:
        raise ValueError(f"name {_KNOWN} as data_dir")
    root = Path(data_dir).expanduser()
    images = Path(image_dir).expanduser() if image_dir else None
    if not root.exists() or is_special(root):
        raise FileNotFoundError(f"no file or folder {root}; name {_KNOWN}")
    if images is not None and not images.is_dir():
        raise FileNotFoundError(f"no folder {images} with the images; correct `image_dir`")
    if root.is_file():
        if root.suffix.lower() == ".csv":
            return CSVBoxes(root, images or root.parent)
        if root.suffix.lower() == ".json":
            return COCO(find_files(root, images))
    elif voc_folders(root):
        return VOC(root, images)
    elif files := find_files(root, images):
        return COCO(files)
    raise ValueError(f"{root} has no boxes in a known form: name {_KNOWN}; see docs/detection.md")


def _choose_splits(
    reader: Reader, train: str | None, val: str | None, training: bool, share: float, seed: int
) -> tuple[Reader, str | None, str]:
    """Return the splits to train on, None if there is none, and to evaluate, and their reader."""
    train_split = resolve(reader.splits, train) or first_of(reader.splits, TRAIN_SPLITS)
    if training and reader.splits and train_split is None:
        known = ", ".join(reader.splits)
        raise ValueError(
            f"{reader.origin} has no split 'train' (it has {known}): name one as `train_split`"
        )
    found = first_of(reader.splits, VALIDATION_SPLITS)
    test_split = resolve(reader.splits, val) or found
    if test_split is None and not training:
        test_split = first_of(reader.splits, (TEST,))
    if found is None and (val in (TRAIN, VAL) or (val is None and training)):
        return SplitReader(reader, train_split or "", share, seed), TRAIN, val or VAL
    return reader, train_split, test_split or train_split or ""


def _open_split(
    images: Iterable[RawImage | BadAnnotation],
    origin: str,
    split: str,
    class_names: tuple[str, ...],
    problems: Problems,
) -> DetectionSource:
    known = len(problems.found)  # those of another split
    annotations = validate(images, class_names, problems)
    if not len(annotations):
        reason = f": {problems.found[known].message}" if problems.found[known:] else ""
        raise ValueError(f"split {split!r} of {origin} has no usable image{reason}")
    return DetectionSource(annotations)


def _warn_of_overlap(train: Annotations, test: Annotations) -> None:
    common = np.intersect1d(train.names, test.names)
    if len(common):
        print(
            f"warning: {len(common)} image{'s' * (len(common) > 1)} of the training split are also "
            f"evaluated, such as {os.fsdecode(common[0])}; the evaluation is too optimistic",
            file=sys.stderr,
        )
