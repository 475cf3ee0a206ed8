# SPDX-License-Identifier: Apache-2.0
"""Lists of image files and their labels: from class folders, a flat folder or an im2rec list."""

from __future__ import annotations

import heapq
import io
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import in_one_line
from ...text import read_text
from .image import is_special

MAX_CLASSES = 1 << 20
LABEL_RULE = f"labels must be integers from 0 to {MAX_CLASSES - 1}"


@dataclass(frozen=True)
class ImageList:
    """Image files with their labels; forked processes share its arrays."""

    root: Path
    # Paths relative to root as bytes (N,). A million Python strings would be copied into each
    # forked process, because reference counting writes to their pages.
    names: np.ndarray
    labels: np.ndarray  # int64 (N,), or float32 (N, labels) with NaN for unknown
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """Return the path of an image relative to the root."""
        return os.fsdecode(self.names[index])

    def path(self, index: int) -> Path:
        """Return the path of an image."""
        return self.root / self.name(index)

    def read(self, index: int) -> bytes:
        """Read the file of an image; raises a ValueError if it is not a regular file."""
        path = self.path(index)
        if is_special(path):
            raise ValueError(f"{path} is not a regular file")
        return path.read_bytes()


def list_folders(
    root: str | os.PathLike[str], class_names: tuple[str, ...] | None = None
) -> ImageList:
    """List the images of a folder that has one subfolder per class, sorted by path.

    Parameters
    ----------
    root
        The folder. Class folders may have subfolders. Symbolic links are followed, but each real
        folder of a class is visited once, and only regular files are images.
    class_names
        The classes in the order of their labels. None means the sorted names of the subfolders.

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
        raise FileNotFoundError(f"no folder {root}; it must have one folder per class")
    with os.scandir(root) as entries:
        folders = sorted(entry.name for entry in entries if entry.is_dir())
    if not folders:
        raise ValueError(f"{root} has no class folders; see docs/imagenet.md for the layouts")
    known = class_names or tuple(folders)
    unknown = sorted(set(folders) - set(known))
    if unknown:
        raise ValueError(
            f"{root / unknown[0]} is not one of the {len(known)} classes ({known[0]}, …); "
            "training and validation need the same classes"
        )
    names: list[bytes] = []
    labels: list[int] = []
    real = {os.path.realpath(path) for path in (root, *(root / folder for folder in folders))}
    skipped: list[str] = []
    for folder in folders:
        files = sorted(_image_files(root / folder, real, skipped))
        if not files and class_names is None:
            raise ValueError(f"{root / folder} has no images; remove it or fill it")
        names += [os.fsencode(os.path.join(folder, name)) for name in files]
        labels += [known.index(folder)] * len(files)
    _report_skipped(skipped)
    return ImageList(root, np.array(names, np.bytes_), np.array(labels, np.int64), known)


def list_flat(
    root: str | os.PathLike[str], labels: Mapping[str, Any]
) -> tuple[np.ndarray, list[Any]]:
    """List the images of a flat folder: names as bytes (N,), sorted, and the label of each.

    ``labels`` has the label of each image by its file name without suffix.
    """
    skipped: list[str] = []
    names = sorted(_image_files(Path(root), {os.path.realpath(root)}, skipped))
    _report_skipped(skipped)
    if not names:
        raise ValueError(f"{root} has no images, neither in class folders nor flat")
    stems = [Path(name).stem for name in names]
    missing = [name for name, stem in zip(names, stems) if stem not in labels]
    if missing:
        raise ValueError(
            f"{len(missing)} images of {root} have no label in the ground truth, {missing[0]} first"
        )
    return np.array(list(map(os.fsencode, names)), np.bytes_), [labels[stem] for stem in stems]


def list_from_file(root: str | os.PathLike[str], path: str | os.PathLike[str]) -> ImageList:
    """List the images of an im2rec list file; the folders' names become the class names."""
    rows = list(read_list_file(path))
    if not rows:
        raise ValueError(f"{path} lists no images")
    for _, label, name in rows:
        if not (label.is_integer() and 0 <= label < MAX_CLASSES):
            raise ValueError(
                f"{path} gives {in_one_line(repr(name))} the label {label:g}; {LABEL_RULE}"
            )
    labels = np.array([label for _, label, _ in rows], np.int64)
    names = np.array([os.fsencode(name) for _, _, name in rows], np.bytes_)
    classes = [str(label) for label in range(int(labels.max()) + 1)]
    for label, (_, _, name) in zip(labels.tolist(), rows):
        folder = os.path.dirname(name)
        if folder:
            classes[label] = folder.split(os.sep)[0]
    if len(set(classes)) < len(classes):  # the folders do not stand for classes
        classes = [str(label) for label in range(len(classes))]
    return ImageList(Path(root), names, labels, tuple(classes))


def read_list_file(path: str | os.PathLike[str]) -> Iterator[tuple[int, float, str]]:
    """Yield the rows of a list file ``NAME.lst`` in im2rec's format: key, label, path."""
    for number, line in enumerate(io.StringIO(read_text(path)), 1):
        columns = line.rstrip("\n").split("\t")
        if columns == [""]:
            continue
        try:
            key, label, name = columns
            row = int(key), float(label), name
        except ValueError:
            raise ValueError(
                f"line {number} of {path} is not number, label and path between tabs: "
                f"{line.strip()[:60]!r}"
            ) from None
        yield row


SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")


def _image_files(folder: Path, real: Collection[str], skipped: list[str]) -> list[str]:
    """Return the paths of all images below a folder, relative to it.

    Each real folder is visited once, by its real path if possible. Other folders in ``real``, links
    to a folder that contains the link, and files that are not regular are added to ``skipped``.
    """
    found = []
    visited = set(real) - {os.path.realpath(folder)}
    pending = [(False, "")]  # a heap: real folders come before links
    while pending:
        link, inside = heapq.heappop(pending)
        path = os.path.join(folder, inside)
        target = os.path.realpath(path)
        if target in visited:
            skipped.append(f"{path} (leads to {target}, already listed)")
            continue
        if link and Path(target) in Path(os.path.realpath(os.path.dirname(path))).parents:
            skipped.append(f"{path} (leads to {target}, which contains it)")
            continue
        visited.add(target)
        with os.scandir(path) as entries:
            for entry in entries:
                name = f"{inside}{os.sep}{entry.name}" if inside else entry.name
                is_image = entry.name.lower().endswith(SUFFIXES)
                # Only the type of a link's target takes a system call.
                if is_image and entry.is_file(follow_symlinks=False):
                    found.append(name)
                elif entry.is_dir(follow_symlinks=False):
                    heapq.heappush(pending, (False, name))
                elif os.path.isdir(entry.path):
                    heapq.heappush(pending, (True, name))
                elif is_image and is_special(entry.path):
                    skipped.append(f"{entry.path} (not a regular file)")
                elif is_image:
                    found.append(name)
    return found


def _report_skipped(skipped: list[str]) -> None:
    if skipped:
        more = f" and {len(skipped) - 1} more" if len(skipped) > 1 else ""
        print(f"warning: skipped {min(skipped)}{more}", file=sys.stderr)
