# SPDX-License-Identifier: Apache-2.0
"""Evaluation of a run, an export or published weights on the test images of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Optional, Union

import mxnet as mx
import numpy as np

from ..analysis import multi_label
from ..analysis.predictions import evaluate
from ..data.class_names import match_classes, warn_of_positions
from ..data.datasets.imagenet import ImageFiles, open_images, unique_names
from ..data.datasets.registry import DATASETS, load_dataset
from ..data.detection.dataset import DetectionFiles
from ..data.files.sources import RelabeledSource
from ..data.loaders.array import ArrayLoader
from ..data.loaders.stream import StreamLoader
from ..data.loaders.to_input import ToInput
from ..data.transforms.image import EvalTransform
from ..errors import check, check_known
from ..training.data import Data
from ..weights.published import published_errors
from .detection import DetectionEvaluation, evaluate_detector
from .model import EvaluatedModel, check_readable
from .results import Evaluation, LabelEvaluation

AnyEvaluation = Union[Evaluation, LabelEvaluation, DetectionEvaluation]

# Task -> what an image of its data has.
KINDS = {
    "classification": "one class per image",
    "multi_label": "several labels per image",
    "detection": "boxes",
}


def open_test_data(
    dataset: str,
    data_dir: Optional[str] = None,
    rec_val: Optional[str] = None,
    ground_truth: Optional[str] = None,
) -> Data:
    """Open a data set for its test images."""
    if dataset == "imagenet":
        return open_images(data_dir, None, rec_val, ground_truth, training=False)
    check_known("data set", dataset, DATASETS)
    return load_dataset(dataset, data_dir)


def evaluate_model(
    model: EvaluatedModel,
    data: Union[Data, DetectionFiles],
    devices: Sequence[mx.Context],
    crops: int = 1,
    batch_size: int = 32,
    workers: int = 0,
    class_map: Optional[Mapping[str, str]] = None,
) -> AnyEvaluation:
    """Evaluate a model on the test images of a data set, matching the classes by name.

    A multi-label model gives a :class:`LabelEvaluation`, a detector a
    :class:`DetectionEvaluation`.

    Parameters
    ----------
    model, data
        From :func:`open_model` and :func:`open_test_data`.
    devices
        Devices among which each batch is split; those of the model, if it is on others.
    crops
        1 or 10 crops per image, whose probabilities are averaged.
    batch_size
        Images per batch over all devices; a batch contains all crops of an image.
    workers
        Processes that decode images from files.
    class_map
        The model's name of some classes of the data, by the data's name.

    Raises
    ------
    ValueError
        If classes, channels or the task of model and data differ, no image can be read, or ten
        crops are requested of arrays.
    """
    _check_task(model, data)
    # An export runs on one device, some only on the CPU.
    devices = next((p.list_ctx() for p in model.net.collect_params().values()), devices[:1])
    if isinstance(data, DetectionFiles):
        check("crops", crops, "1 for a detector", crops == 1)
        check("class_map", class_map, "left out for a detector", not class_map)
        return evaluate_detector(model, data, devices, batch_size, workers)
    data = _with_labels_of(model, data, class_map)
    names, channels = data.info.class_names, model.known_preprocessing().channels
    if channels != data.info.in_channels:
        raise ValueError(
            f"{model.name} takes images of {channels} channels, "
            f"{data.info.name} has {data.info.in_channels}."
        )
    loader = _loader(model, data, crops, batch_size, workers)
    preprocessing = model.known_preprocessing()
    normalization = () if model.takes_pixels else (preprocessing.mean, preprocessing.std)
    to_input = ToInput(*normalization)
    if model.has_several_labels:
        found = multi_label.evaluate(model.net, loader, batch_size, devices, to_input)
        skipped = _close(loader)
        check_readable(found.readable, data.info.name)
        return LabelEvaluation(
            *(model, data.info.name, crops, names, found, skipped, model.thresholds),
            getattr(data, "test_groups", None),
        )
    predictions = evaluate(model.net, loader, batch_size, devices, to_input)
    if predictions.top_classes.max() >= len(names):
        raise ValueError(f"{model.name} has other classes than the {len(names)} of the data.")
    skipped = _close(loader)
    dataset = data.info.name
    check_readable(predictions.readable, dataset)
    augmented = bool(model.config and model.config.augment)
    published = published_errors(
        model.model, dataset, crops, augmented, weights=model.weights, spec=model.spec
    )
    return Evaluation(model, dataset, crops, names, predictions, skipped, published)


def _check_task(model: EvaluatedModel, data: Union[Data, DetectionFiles]) -> None:
    """Raise a ValueError unless the data are of the model's task."""
    if isinstance(data, DetectionFiles):
        task = "detection"
    elif isinstance(data, ImageFiles):
        task = "multi_label" if data.test.label_shape else "classification"
    else:
        task = "multi_label" if data.test_labels.ndim > 1 else "classification"
    if task != model.task:
        raise ValueError(
            f"{model.name} has learned {KINDS[model.task]}, but {data.info.name} has "
            f"{KINDS[task]}: evaluate on other data."
        )


def _close(loader: Union[ArrayLoader, StreamLoader]) -> int:
    """End the loader's processes; return the number of images that could not be decoded."""
    if not isinstance(loader, StreamLoader):
        return 0
    loader.close()
    return len(loader.bad)


def _with_labels_of(
    model: EvaluatedModel, data: Data, class_map: Optional[Mapping[str, str]]
) -> Data:
    """Return the data with the model's labels and class names, if the model has class names."""
    own, names = model.class_names, data.info.class_names
    if own is None:
        if class_map:
            raise ValueError(f"{model.name} has no class names, which a class map needs.")
        warn_of_positions(model.name)
        return data
    own = unique_names(own)
    try:
        # The names of arrays are known: "0" to "9" are digits, not numbers of unnamed classes.
        labels = match_classes(own, names, class_map, isinstance(data, ImageFiles))
    except ValueError as error:
        raise ValueError(
            f"{model.name} and {data.info.name}: {error} Rename the folders, or the lines of "
            "NAME.classes.txt beside NAME.rec, or map the names with `class_map`."
        ) from None
    info = replace(data.info, class_names=own)
    if np.array_equal(labels, np.arange(len(own))):
        return replace(data, info=info)
    if isinstance(data, ImageFiles):
        return replace(data, info=info, test=RelabeledSource(data.test, labels))
    return replace(data, info=info, test_labels=labels[data.test_labels].astype(np.int32))


def _loader(
    model: EvaluatedModel, data: Data, crops: int, batch_size: int, workers: int
) -> Union[ArrayLoader, StreamLoader]:
    preprocessing = model.known_preprocessing()
    if isinstance(data, ImageFiles):
        transform = EvalTransform(preprocessing, crops)
        count = len(data.info.class_names)
        return StreamLoader(data.test, transform, batch_size, workers=workers, classes=count)
    if crops != 1:
        raise ValueError(f"{crops} crops need image files; {data.info.name} is arrays: use 1.")
    arrays = data.test_images, data.test_labels
    return ArrayLoader(*arrays, batch_size, resize=preprocessing.size, mean=None, std=None)
