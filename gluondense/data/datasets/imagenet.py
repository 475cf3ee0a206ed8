"""ImageNet, or any pictures of classes laid out like it: folders, or RecordIO files."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..files.sources import FolderSource, RecordSource, Source, class_names_beside
from ..transforms.image import EvalTransform
from .folders import PictureList, list_flat, list_folders, read_answers
from .registry import DATASETS, DatasetInfo, Places

# Where people have the validation answers, seen from the data folder.
ANSWERS = (
    "ILSVRC2012_validation_ground_truth.txt",
    "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt",
    "data/ILSVRC2012_validation_ground_truth.txt",
    "imagenet_2012_validation_synset_labels.txt",
    "LOC_val_solution.csv",
    "val.txt",
)
_KAGGLE = Path("ILSVRC/Data/CLS-LOC")


@dataclass(frozen=True)
class ImageFiles:
    """A data set of encoded pictures, decoded as they are needed.

    Parameters
    ----------
    info
        With the names of its classes.
    train, test
        Its pictures; ``train`` is None where only an evaluation is wanted.
    """

    info: DatasetInfo
    train: Source | None
    test: Source

    @property
    def train_count(self) -> int:
        """Number of training pictures."""
        return len(self.train) if self.train is not None else 0

    @property
    def test_count(self) -> int:
        """Number of test pictures."""
        return len(self.test)

    def test_pictures(self, places: Places, size: tuple[int, int]) -> np.ndarray:
        """Decode some test pictures, uint8 (n, H, W, 3); those that can't be read are black."""
        return decode(self.test, places, size)


def decode(source: Source, places: Places, size: tuple[int, int]) -> np.ndarray:
    """Decode some pictures of a source, uint8 (n, H, W, 3); those that can't be read are black."""
    transform = EvalTransform(size, (0,) * 3, (1,) * 3, crop_ratio=1.0)
    pictures = np.zeros((len(places), *size, 3), np.uint8)
    for row, place in enumerate(places):
        try:
            data, _, name = source.read(int(place))
            pictures[row] = transform.cut(data, name)[0]
        except (ValueError, OSError):
            continue
    return pictures


def open_images(
    data_dir: str | os.PathLike[str] | None = None,
    rec_train: str | os.PathLike[str] | None = None,
    rec_val: str | os.PathLike[str] | None = None,
    ground_truth: str | os.PathLike[str] | None = None,
    training: bool = True,
) -> ImageFiles:
    """Open pictures for training and evaluation; nothing is decoded yet.

    Parameters
    ----------
    data_dir
        Folder with ``train`` and ``val``, or Kaggle's with ``ILSVRC``; ``val`` may be flat.
    rec_train, rec_val
        RecordIO files, in place of the folders.
    ground_truth
        Answers of a flat ``val``; None looks in the folder and beside it.
    training
        Whether the training pictures are wanted, too.

    Raises
    ------
    FileNotFoundError
        If a folder or file is missing.
    ValueError
        If the two sets have different classes, or something in them is not what it should be.
    """
    if rec_val is not None or rec_train is not None:
        if rec_val is None or (training and rec_train is None):
            missing = "rec_val" if rec_val is None else "rec_train"
            raise ValueError(f"{missing} is missing: RecordIO files come as a pair")
        return _open_records(rec_train if training else None, rec_val)
    if data_dir is None:
        raise ValueError("name a data_dir with train and val, or rec_train and rec_val")
    root = Path(data_dir).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}; it must hold train and val")
    base = root / _KAGGLE if (root / _KAGGLE).is_dir() else root
    train = list_folders(base / "train") if training or (base / "train").is_dir() else None
    known = train.class_names if train is not None else None
    test = list_validation(base / "val", known, ground_truth or _find_answers(root, base))
    info = _info(readable(test.class_names))
    return ImageFiles(info, FolderSource(train) if train and training else None, FolderSource(test))


def list_validation(
    root: str | os.PathLike[str],
    class_names: tuple[str, ...] | None,
    ground_truth: str | os.PathLike[str] | None,
) -> PictureList:
    """List the pictures of a validation folder, in folders of classes or flat.

    Parameters
    ----------
    root
        The folder.
    class_names
        The training set's classes, in the order of their labels; None takes ImageNet's 1000, or the
        folders' names.
    ground_truth
        A flat folder's answers, in a form that :func:`.folders.read_answers` knows.

    Raises
    ------
    FileNotFoundError, ValueError
        As there, and if an answer is none of the classes.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root} with the validation pictures")
    with os.scandir(root) as entries:
        in_folders = any(entry.is_dir() for entry in entries)
    if in_folders:
        return list_folders(root, class_names)
    if ground_truth is None:
        raise FileNotFoundError(
            f"{root} is flat and there is no ground truth beside it: give --ground-truth, "
            f"{', '.join(ANSWERS[:1] + ANSWERS[3:])} or the like"
        )
    names, answers = list_flat(root, read_answers(ground_truth))
    if isinstance(answers[0], int):
        classes = class_names or tuple(map(str, range(max(answers) + 1)))
        labels = answers
    else:
        classes = class_names or tuple(sorted(set(answers)))
        known = {name: label for label, name in enumerate(classes)}
        strange = sorted(set(answers) - known.keys())
        if strange:
            raise ValueError(f"{ground_truth} names {strange[0]}, which is none of the classes")
        labels = [known[answer] for answer in answers]
    if max(labels) >= len(classes):
        raise ValueError(f"{ground_truth} has the label {max(labels)} of {len(classes)} classes")
    return PictureList(root, names, np.array(labels, np.int64), classes)


def readable(class_names: tuple[str, ...]) -> tuple[str, ...]:
    """Replace ImageNet's wnids by words; other names stay.

    Examples
    --------
    >>> readable(("n01440764", "n02012849")), readable(("cat", "dog"))
    (('tench', 'crane n02012849'), ('cat', 'dog'))
    """
    if not all(name[:1] == "n" and name[1:].isdigit() for name in class_names):
        return class_names
    # Imported here, as it takes seconds.
    from ...environment.process import import_gluoncv

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


def _open_records(
    rec_train: str | os.PathLike[str] | None, rec_val: str | os.PathLike[str]
) -> ImageFiles:
    named = [class_names_beside(path) for path in (rec_train, rec_val) if path is not None]
    lists = [names for names in named if names and not all(map(str.isdigit, names))]
    if len(lists) == 2 and lists[0] != lists[1]:
        raise ValueError(
            f"{rec_train} and {rec_val} have different classes (their .classes.txt differ); "
            "make the second with --classes-of the first one's folder"
        )
    # Without names the larger number of classes holds for both; without anything it is ImageNet.
    classes = lists[0] if lists else max((names for names in named if names), key=len, default=())
    names = readable(classes) if classes else tuple(map(str, range(1000)))
    train = RecordSource(rec_train) if rec_train is not None else None
    return ImageFiles(_info(names), train, RecordSource(rec_val))


def _info(class_names: tuple[str, ...]) -> DatasetInfo:
    return replace(DATASETS["imagenet"], class_names=class_names)


def _find_answers(root: Path, base: Path) -> Path | None:
    places = (place / name for place in (base / "val", base, root) for name in ANSWERS)
    return next((path for path in places if path.is_file()), None)
