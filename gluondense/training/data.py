# SPDX-License-Identifier: Apache-2.0
"""The data set of a run and its loaders, from arrays in memory or from encoded image files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Optional, Union

import numpy as np

from ..data.datasets.folder.csv_file import Columns
from ..data.datasets.folder.open import open_folder
from ..data.datasets.imagenet import ImageFiles, open_images
from ..data.datasets.registry import DatasetInfo, ImageArrays, load_dataset
from ..data.detection.dataset import DetectionFiles, open_detection
from ..data.loaders.array import ArrayLoader
from ..data.loaders.base import Loader
from ..data.loaders.staged import StagedLoader
from ..data.loaders.stream import StreamLoader
from ..data.preprocessing import Preprocessing
from ..data.transforms.image import EvalTransform, TrainTransform, Transform
from .config import TrainConfig
from .configuration.sections import DataConfig, TaskConfig
from .distributed.workers import Workers
from .tasks.targets import balanced_weights

# Of classification; images with boxes are :class:`..data.detection.dataset.DetectionFiles`.
Data = Union[ImageArrays, ImageFiles]


def open_data(config: DataConfig, training: bool = True, split: Optional[Path] = None) -> Data:
    """Open the data set; without ``training``, training image files may be missing.

    ``split`` is the run's file of images and splits, see :attr:`.run_folder.RunFolder.split`.
    """
    if config.dataset in _OPENERS:
        return _OPENERS[config.dataset](config, training, split)
    return load_dataset(config.dataset, data_dir=config.data_dir, download=config.download)


def _open_folder(config: DataConfig, training: bool, split: Optional[Path]) -> Data:
    share, seed = config.validation_share, config.split_seed
    return open_folder(
        config.data_dir, config.image_dir, columns_of(config), share, seed, split, training
    )


def _open_imagenet(config: DataConfig, training: bool, split: Optional[Path]) -> Data:
    paths = config.data_dir, config.rec_train, config.rec_val, config.ground_truth
    return open_images(*paths, training=training)


def _open_detection(config: DataConfig, training: bool, split: Optional[Path]) -> DetectionFiles:
    return open_detection(
        config.data_dir,
        config.image_dir,
        train=config.train_split,
        val=config.val_split,
        bad=config.bad_images,
        validation_share=config.validation_share,
        split_seed=config.split_seed,
        training=training,
    )


# Data sets in files -> what opens them.
_OPENERS: Mapping[str, Callable[[DataConfig, bool, Optional[Path]], Any]] = {
    "folder": _open_folder,
    "imagenet": _open_imagenet,
    "detection": _open_detection,
}


def columns_of(config: DataConfig) -> Columns:
    """Return the columns of the CSV file of data set ``folder``."""
    return Columns(
        path=config.path_column,
        labels=config.label_columns,
        split=None if config.split_column == "none" else config.split_column,
        group=config.group_column,
        several_labels=config.multi_label,
        empty_label=config.empty_label,
    )


def balance_classes(config: TaskConfig, data: Data) -> TaskConfig:
    """Replace class weights ``balanced`` by numbers, from the labels of the training images.

    Several labels per image have no classes to balance: their task weights the positives itself.

    Raises
    ------
    ValueError
        If the labels are in RecordIO files, a class has no image, or there are several labels and
        weights in numbers.
    """
    labels = data.train_labels
    if labels is not None and labels.ndim > 1 and not isinstance(config.class_weights, str):
        raise ValueError("`class_weights` are for one class per image, not for several labels.")
    if config.class_weights != "balanced" or (labels is not None and labels.ndim > 1):
        return config
    if labels is None:
        raise ValueError(
            "`class_weights` balanced counts the labels of class folders, which RecordIO files "
            "don't list: give a number for each class."
        )
    counts = np.bincount(labels, minlength=len(data.info.class_names))
    if not counts.all():
        name = data.info.class_names[int(np.argmin(counts))]
        raise ValueError(f"`class_weights` balanced: the class {name} has no training image.")
    return replace(config, class_weights=balanced_weights(counts))


def describe_weights(config: TaskConfig, info: DatasetInfo) -> str:
    """Return the smallest and the largest class weight in words.

    Examples
    --------
    >>> from gluondense.data import DATASETS
    >>> describe_weights(TaskConfig(class_weights=(1.0,) * 5), DATASETS["synthetic"])
    'class weights: all equal'
    """
    pairs = sorted(zip(map(float, config.class_weights), info.class_names))
    (low, first), (high, last) = pairs[0], pairs[-1]
    if high - low < 1e-9:
        return "class weights: all equal"
    return f"class weights: {low:.3g} ({first}) to {high:.3g} ({last})"


def eval_batch_size(config: DataConfig, workers: Workers) -> int:
    """Return the number of test images in a worker's batch."""
    return -(-config.batch_size // workers.world_size)


def steps_per_epoch(config: DataConfig, images: int) -> int:
    """Return the number of batches of an epoch."""
    full, rest = divmod(images, config.batch_size)
    return full + (rest > 0 and not config.drop_last)


def make_train_loader(
    config: TrainConfig, data: Data, preprocessing: Preprocessing, workers: Workers
) -> Loader:
    """Make the loader of training images; each worker gets its part of each batch.

    With ``train_sizes``, the size of the images changes as the epochs go on.
    """
    options = data, preprocessing, workers, config.runtime.seed
    if not config.data.train_sizes:
        return _make_train_loader(config.data, *options)
    parts = [replace(config.data, resize=side, train_sizes=()) for side in config.data.train_sizes]
    return StagedLoader([_make_train_loader(p, *options) for p in parts], config.schedule.epochs)


def _make_train_loader(
    config: DataConfig, data: Data, preprocessing: Preprocessing, workers: Workers, seed: int
) -> Loader:
    """Make the loader of training images of one size, the input size.

    They are pixels or records, which :class:`..data.loaders.to_input.ToInput` normalizes. For
    ``cache_features`` it yields all images in order, as in evaluation.
    """
    options: dict[str, Any] = {
        "shuffle": True,
        "seed": seed,
        "last": "discard" if config.drop_last else "keep",
        "part": (workers.rank, workers.world_size),
        "repeats": config.repeats,
    }
    if config.cache_features:
        options.update(shuffle=False, last="keep")
    if isinstance(data, ImageFiles):
        if data.train is None:
            raise ValueError("the data set was opened without training images.")
        transform: Transform = TrainTransform(
            config.input_size, config.augment, config.invert, config.min_area
        )
        if config.cache_features:
            transform = EvalTransform(preprocessing)
        if config.drop_last and data.train_count < config.batch_size:
            raise ValueError(
                f"`batch_size` (={config.batch_size}) is more than the {data.train_count} training "
                f"images: pass {data.train_count} or less."
            )
        options.update(workers=config.data_workers, **_decoding(config, data))
        return StreamLoader(data.train, transform, config.batch_size, **options)
    arrays = data.train_images, data.train_labels
    options.update(augment=config.augment, resize=config.resize, mean=None, std=None)
    return ArrayLoader(*arrays, config.batch_size, **options)


def make_test_loader(
    config: DataConfig, data: Data, preprocessing: Preprocessing, workers: Workers
) -> Loader:
    """Make the loader of test images, as pixels; each worker gets a contiguous block of them."""
    size, rank = eval_batch_size(config, workers), workers.rank
    first, end = (data.test_count * part // workers.world_size for part in (rank, rank + 1))
    if isinstance(data, ImageFiles):
        transform = EvalTransform(preprocessing)
        options = {"workers": (config.data_workers + 1) // 2, **_decoding(config, data)}
        return StreamLoader(data.test, transform, size, block=(first, end), **options)
    arrays = data.test_images[first:end], data.test_labels[first:end]
    return ArrayLoader(*arrays, size, resize=config.resize, mean=None, std=None)


def _decoding(config: DataConfig, data: ImageFiles) -> dict[str, Any]:
    return {"bad": config.bad_images, "classes": len(data.info.class_names)}
