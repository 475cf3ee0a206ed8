# SPDX-License-Identifier: Apache-2.0
"""Read a folder of class folders, or of splits that have class folders."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from ...files.image_list import ImageList, list_folders
from .table import SPLIT_NAMES, SPLITS, TRAIN, ImageTable


def read_class_folders(root: str | os.PathLike[str]) -> ImageTable:
    """List the images of a folder.

    Parameters
    ----------
    root
        A folder with one folder per class; or with ``train`` and, if wanted, ``val`` and ``test``
        (or another of ``SPLIT_NAMES``), which have the class folders. It is the second if a folder
        is called ``train`` and has folders.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        If there are no classes, or a split has a class that the training images lack.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}; name a folder of class folders or a .csv file")
    if not _has_folders(root):
        raise ValueError(
            f"{root} has no class folders; make a folder per class, or list path and label of the "
            "images in a .csv file"
        )
    folders = _split_folders(root)
    if TRAIN not in folders:
        images = list_folders(root)
        return ImageTable(images, np.full(len(images), "", "U5"))
    train = list_folders(root / folders[TRAIN])
    parts = {
        split: train if split == TRAIN else list_folders(root / folder, train.class_names)
        for split, folder in folders.items()
    }
    return ImageTable(
        ImageList(root, *_concatenate(folders, parts), train.class_names),
        np.concatenate([np.full(len(part), split, "U5") for split, part in parts.items()]),
    )


def _split_folders(root: Path) -> dict[str, str]:
    """Return the folder of each split, in the order of ``SPLITS``; empty if there are none."""
    with os.scandir(root) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir())
    found: dict[str, str] = {}
    for name in names:
        split = SPLIT_NAMES.get(name.lower())
        if split is None or not _has_folders(root / name):
            continue
        if split in found:
            raise ValueError(
                f"{root} has two folders of the split {split}: {found[split]} and {name}; "
                "remove one"
            )
        found[split] = name
    if TRAIN not in found:
        if set(names) == set(found.values()):
            raise ValueError(f"{root} has {' and '.join(names)}, but no train; add one")
        return {}
    others = [name for name in names if name not in found.values()]
    if others:
        message = f"warning: {root / others[0]} is no split (train, val, test) and is not read"
        print(message, file=sys.stderr)
    return {split: found[split] for split in SPLITS if split in found}


def _has_folders(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(entry.is_dir() for entry in entries)


def _concatenate(
    folders: dict[str, str], parts: dict[str, ImageList]
) -> tuple[np.ndarray, np.ndarray]:
    """Return paths relative to the parent of all splits, and labels."""
    names = [
        np.char.add(os.fsencode(folders[split] + os.sep), part.names)
        for split, part in parts.items()
        if len(part)
    ]
    return np.concatenate(names), np.concatenate([part.labels for part in parts.values()])
