# SPDX-License-Identifier: Apache-2.0
"""The splits of a data set, and a split made for data that has none to evaluate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..datasets.folder.splitting import stratified_split
from .annotations import BadAnnotation, RawImage, Reader, check_split

TRAIN, VAL = "train", "val"
# Names of splits in the order of preference, where none are given.
TRAIN_SPLITS = (TRAIN, "trainval")
VALIDATION_SPLITS = (VAL, "valid", "validation")
TEST = "test"  # never chosen for a run, whose best checkpoint would then be biased


@dataclass(frozen=True)
class SplitReader:
    """A reader with one of its splits divided into ``train`` and ``val``.

    Parameters
    ----------
    reader, base
        The reader and its split; ``""`` is all images.
    share, seed
        See :func:`..datasets.folder.splitting.stratified_split`. An image has the labels of the
        classes of its boxes.
    """

    reader: Reader
    base: str
    share: float
    seed: int

    @property
    def origin(self) -> str:
        """The folder or file in messages."""
        return self.reader.origin

    @property
    def splits(self) -> tuple[str, ...]:
        """``train`` and ``val``, and the other splits of the reader."""
        divided = (TRAIN, VAL, *self.base.split("+"))
        return TRAIN, VAL, *(name for name in self.reader.splits if name not in divided)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes, see :class:`.annotations.Reader`."""
        return self.reader.class_names

    def read(self, split: str) -> Iterator[RawImage | BadAnnotation]:
        """Read the images of a split."""
        check_split(self, split)
        for part in split.split("+"):
            yield from self.parts()[part] if part in (TRAIN, VAL) else self.reader.read(part)

    def parts(self) -> dict[str, list[RawImage | BadAnnotation]]:
        """Read the images of ``train`` and of ``val`` at once, each annotation a single time."""
        images = list(self.reader.read(self.base))
        chosen = self._validation(images)
        return {
            name: [image for image, mine in zip(images, chosen) if mine == (name == VAL)]
            for name in (TRAIN, VAL)
        }

    def _validation(self, images: Sequence[RawImage | BadAnnotation]) -> np.ndarray:
        """Return whether each image is evaluated; unreadable ones are not, bool (N,)."""
        good = [index for index, image in enumerate(images) if isinstance(image, RawImage)]
        readable = [image for image in images if isinstance(image, RawImage)]
        if len(readable) < 2:
            raise ValueError("there are less than two images with annotations to split")
        names = found_names(images)
        labels = {name: label for label, name in enumerate(names)}
        has = np.zeros((len(readable), len(names)), np.float32)
        for row, image in zip(has, readable):
            row[[labels[box.class_name] for box in image.boxes]] = 1
        chosen = np.zeros(len(images), bool)
        chosen[good] = stratified_split(has, None, self.share, self.seed)
        return chosen


def first_of(splits: Sequence[str], known: Iterable[str]) -> str | None:
    """Return the first known name that is a split, or all splits ``FOLDER/NAME`` of such a name.

    Examples
    --------
    >>> first_of(("test", "trainval"), TRAIN_SPLITS)
    'trainval'
    >>> first_of(("VOC2007/test", "VOC2007/trainval", "VOC2012/trainval"), TRAIN_SPLITS)
    'VOC2007/trainval+VOC2012/trainval'
    """
    for name in known:  # a VOC folder's splits are FOLDER/NAME
        found = [split for split in splits if split.rpartition("/")[2] == name]
        if found:
            return "+".join(found)
    return None


def resolve(splits: Sequence[str], name: str | None) -> str | None:
    """Return the splits that a name stands for, so that train, val and test mean the same anywhere.

    A name that is no split, nor stands for one, is returned as it is.

    Examples
    --------
    >>> resolve(("test", "train", "valid"), "val")
    'valid'
    >>> resolve(("VOC2007/test", "VOC2007/trainval"), "test")
    'VOC2007/test'
    """
    if name is None or name in splits:
        return name
    known = {TRAIN: TRAIN_SPLITS, VAL: VALIDATION_SPLITS}.get(name, (name,))
    return first_of(splits, known) or name


def found_names(images: Iterable[RawImage | BadAnnotation]) -> tuple[str, ...]:
    """Return the sorted names of the classes of all boxes."""
    found: set[str] = set()
    for image in images:
        if isinstance(image, RawImage):
            found.update(box.class_name for box in image.boxes)
    return tuple(sorted(found))
