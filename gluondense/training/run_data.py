# SPDX-License-Identifier: Apache-2.0
"""The images of a finished or interrupted run, with the splits that it trained with."""

from __future__ import annotations

import csv
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Optional, Union

from ..data.datasets.folder.csv_file import read_csv
from ..data.datasets.folder.open import FolderImages
from ..data.datasets.folder.split_file import PATH, SPLIT
from ..data.datasets.folder.table import TRAIN
from ..errors import in_one_line
from .configuration.sections import DataConfig
from .data import Data, columns_of, open_data
from .run_folder import RunFolder

PATHS = ("data_dir", "image_dir", "rec_train", "rec_val", "ground_truth")  # fields of `DataConfig`


def open_run_data(
    path: Union[str, os.PathLike[str]], config: DataConfig, training: bool = False
) -> Data:
    """Open the data set of a run.

    Parameters
    ----------
    path
        The folder of the run, or of one of its checkpoints.
    config
        Data section of its configuration.
    training
        Whether to open the training images too.

    Raises
    ------
    OSError
        If the data, or the run's file of splits, is missing.
    ValueError
        If the data cannot be used.
    """
    split = find_split(path)
    if config.dataset == "folder" and split is None:
        raise FileNotFoundError(
            f"{path} has no split.csv, which says what images the run was trained on: evaluate the "
            "run's folder, or other images with `data_dir`."
        )
    return open_data(config, training, split)


def with_current_paths(path: Union[str, os.PathLike[str]], config: DataConfig) -> DataConfig:
    """Return the data section of a checkpoint with the paths that its run has now.

    Resuming with moved images changes the run's configuration, but not its older checkpoints.
    """
    folder = _run_folder(path)
    if not (folder.path / "config.json").is_file():
        return config
    now = folder.config().data
    return replace(config, **{name: getattr(now, name) for name in PATHS})


def warn_of_training_images(data: Data, run: Union[str, os.PathLike[str]]) -> None:
    """Warn if images under evaluation have the paths of training images of a run.

    ``run`` is anything that can be evaluated; only a run of data set ``folder`` is looked at.
    """
    split = find_split(run)
    if split is None or not isinstance(data, FolderImages):
        return
    trained = {path for path, part in _read_splits(split) if part == TRAIN}
    images = data.test_table.images
    count = sum(images.name(index) in trained for index in range(len(images)))
    if count:
        print(
            f"warning: {count} of {len(images)} images have the paths of training images of {run}; "
            "the result is too good",
            file=sys.stderr,
        )


def split_to_resume(folder: RunFolder, config: DataConfig) -> Optional[Path]:
    """Return the file of splits with which a run continues, None if its data set has none.

    Raises
    ------
    FileNotFoundError
        If it is missing though the run has been training: other splits would move training images
        to the validation.
    ValueError
        If the folder or CSV file of the data was changed to one that lacks images of the run.
    """
    if config.dataset != "folder" or not (folder.split.is_file() or folder.last.exists()):
        return None
    if not folder.split.is_file():
        raise FileNotFoundError(
            f"{folder.path} has no split.csv, which says what images the run was trained on: "
            "restore it, or start again with `overwrite`."
        )
    if config.data_dir not in (None, folder.config().data.data_dir):
        _check_has_images(Path(config.data_dir or ""), config, folder)
    return folder.split


def _check_has_images(source: Path, config: DataConfig, folder: RunFolder) -> None:
    """Raise a ValueError unless a folder, or the rows of a CSV file, have all images of a run."""
    names = [path for path, _ in _read_splits(folder.split)]
    if source.suffix.lower() == ".csv":
        images = read_csv(source, source.parent, columns_of(config)).images
        listed = {images.name(index) for index in range(len(images))}
        missing = [name for name in names if name not in listed]
    else:
        missing = [name for name in names if not (source / name).exists()]
    if missing:
        raise ValueError(
            f"{source} lacks {len(missing)} of the {len(names)} images of the run {folder.path}, "
            f"such as {missing[0]}: resume it with its own images, or start another run."
        )


def _read_splits(split: Path) -> list[tuple[str, str]]:
    """Return path and split of each image in a run's file of splits."""
    try:
        with open(split, newline="", encoding="utf-8", errors="surrogateescape") as file:
            return [(row[PATH], row[SPLIT] or "") for row in csv.DictReader(file)]
    except (csv.Error, KeyError) as error:
        raise ValueError(f"{split} is damaged ({in_one_line(error)}): restore it.") from None


def find_split(path: Union[str, os.PathLike[str]]) -> Optional[Path]:
    """Return the file of splits of the run that a folder is, or is a checkpoint of."""
    file = _run_folder(path).split
    return file if file.is_file() else None


def _run_folder(path: Union[str, os.PathLike[str]]) -> RunFolder:
    """Return the folder of the run that a folder is, or is a checkpoint of."""
    path = Path(path).resolve()
    return RunFolder(path.parents[1] if path.parent.name == "checkpoints" else path)
