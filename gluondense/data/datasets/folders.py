"""Pictures in folders: one folder a class, or ImageNet's flat validation folder."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..files.recordio import read_labels

SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class PictureList:
    """Which pictures there are, and what they show.

    Parameters
    ----------
    root
        The folder that the names start from.
    names
        Paths below it as bytes (N,): a million Python strings would be copied into every process
        that is forked, as counting references touches them.
    labels
        int64 (N,).
    class_names
        One a label.
    """

    root: Path
    names: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, place: int) -> str:
        """Path of a picture below the root."""
        return os.fsdecode(self.names[place])


def list_folders(
    root: str | os.PathLike[str], class_names: tuple[str, ...] | None = None
) -> PictureList:
    """List the pictures of a folder that has one folder a class, in the order of the names.

    Parameters
    ----------
    root
        The folder; class folders may have folders of their own.
    class_names
        The classes in the order of their labels; None takes the folders' names, sorted.

    Raises
    ------
    FileNotFoundError
        If the folder is missing.
    ValueError
        If there are no classes, an unknown one, or one of the ``class_names`` None has no pictures.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> for name in ("dog/2.jpg", "cat/1.jpg", "cat/notes.txt"):
    ...     file = Path(folder, name)
    ...     file.parent.mkdir(exist_ok=True)
    ...     file.touch()
    >>> found = list_folders(folder)
    >>> found.class_names, found.labels.tolist(), found.name(1)
    (('cat', 'dog'), [0, 1], 'dog/2.jpg')
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}; it must hold one folder a class")
    with os.scandir(root) as entries:
        folders = sorted(entry.name for entry in entries if entry.is_dir())
    if not folders:
        raise ValueError(f"{root} has no folders, one a class; see docs/imagenet.md for layouts")
    known = class_names or tuple(folders)
    unknown = sorted(set(folders) - set(known))
    if unknown:
        raise ValueError(
            f"{root / unknown[0]} is none of the {len(known)} classes ({known[0]}, …); "
            "training and validation need the same classes"
        )
    names: list[bytes] = []
    labels: list[int] = []
    for folder in folders:
        inside = sorted(_pictures(root / folder))
        if not inside and class_names is None:
            raise ValueError(f"{root / folder} holds no pictures; remove it or fill it")
        names += [os.fsencode(os.path.join(folder, name)) for name in inside]
        labels += [known.index(folder)] * len(inside)
    return PictureList(root, np.array(names, np.bytes_), np.array(labels, np.int64), known)


def list_flat(root: str | os.PathLike[str], answers: dict[str, str] | dict[str, int]) -> tuple:
    """List the pictures of a flat folder: their names as bytes and their answers, both sorted.

    Raises
    ------
    ValueError
        If a picture has no answer, or there are none.
    """
    names = sorted(_pictures(Path(root)))
    if not names:
        raise ValueError(f"{root} holds no pictures, neither in folders of classes nor flat")
    missing = [name for name in names if Path(name).stem not in answers]
    if missing:
        raise ValueError(
            f"{len(missing)} pictures of {root} have no answer in the ground truth, "
            f"{missing[0]} first"
        )
    return np.array(list(map(os.fsencode, names)), np.bytes_), [
        answers[Path(name).stem] for name in names
    ]


def list_rows(root: str | os.PathLike[str], path: str | os.PathLike[str]) -> PictureList:
    """List the pictures of an im2rec list file; class names come from the folders' names.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a line is not sound, or a label is no whole number.
    """
    rows = list(read_labels(path))
    if not rows:
        raise ValueError(f"{path} lists no pictures")
    labels = np.array([label for _, label, _ in rows])
    if (labels != labels.astype(np.int64)).any() or labels.min() < 0:
        raise ValueError(f"{path} has labels that are no whole numbers from 0 up")
    labels = labels.astype(np.int64)
    names = np.array([os.fsencode(name) for _, _, name in rows], np.bytes_)
    classes = [str(label) for label in range(int(labels.max()) + 1)]
    for label, (_, _, name) in zip(labels.tolist(), rows):
        folder = os.path.dirname(name)
        if folder:
            classes[label] = folder.split(os.sep)[0]
    if len(set(classes)) < len(classes):  # the folders are no classes
        classes = [str(label) for label in range(len(classes))]
    return PictureList(Path(root), names, labels, tuple(classes))


def read_answers(
    path: str | os.PathLike[str], meta: str | os.PathLike[str] | None = None
) -> dict[str, str] | dict[str, int]:
    """Read ImageNet's validation answers: from a picture's stem to its class, a wnid or a label.

    Known are the development kit's ``ILSVRC2012_validation_ground_truth.txt`` (numbers of
    ``meta.mat``, which must lie beside it), one wnid a line in the pictures' order, Caffe's
    ``val.txt`` (name and label, or name and wnid), and Kaggle's ``LOC_val_solution.csv``.

    Parameters
    ----------
    path
        The file.
    meta
        ``meta.mat`` of the development kit; None looks beside the file.

    Raises
    ------
    FileNotFoundError
        If one of the files is missing.
    ValueError
        If the file is none of these.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no ground truth {path}; see docs/imagenet.md for the forms")
    lines = path.read_text(encoding="utf-8").split("\n")
    rows = [line.replace("\t", " ").split() for line in lines if line.strip()]
    if rows and lines[0].startswith("ImageId,"):
        return {row["ImageId"]: row["PredictionString"].split()[0] for row in csv.DictReader(lines)}
    widths = {len(row) for row in rows}
    if widths == {2}:
        values = [row[1] for row in rows]
        stems = [Path(row[0]).stem for row in rows]
        if all(map(str.isdigit, values)):
            return dict(zip(stems, map(int, values)))
        return dict(zip(stems, values))
    if widths != {1}:
        raise ValueError(f"{path} is no ground truth in a known form; see docs/imagenet.md")
    stems = [f"ILSVRC2012_val_{number:08d}" for number in range(1, len(rows) + 1)]
    if rows[0][0].startswith("n"):
        return {stem: row[0] for stem, row in zip(stems, rows)}
    wnids = _wnids(Path(meta) if meta is not None else path.with_name("meta.mat"))
    try:
        return {stem: wnids[int(row[0])] for stem, row in zip(stems, rows)}
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path} holds {error}, which is no number of meta.mat") from None


def _wnids(meta: Path) -> dict[int, str]:
    """Read the development kit's own numbers of the classes, which follow no order of wnids."""
    if not meta.is_file():
        raise FileNotFoundError(
            f"no {meta}: the numbers of the ground truth mean nothing without the development "
            "kit's meta.mat; copy it beside the ground truth"
        )
    from scipy.io import loadmat

    synsets = loadmat(meta, squeeze_me=True)["synsets"]
    return {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in np.atleast_1d(synsets)}


def _pictures(folder: Path) -> list[str]:
    """Paths below the folder of all pictures in it."""
    found = []
    for place, _, files in os.walk(folder, followlinks=True):
        inside = os.path.relpath(place, folder)
        for file in files:
            if file.lower().endswith(SUFFIXES):
                found.append(file if inside == "." else os.path.join(inside, file))
    return found
