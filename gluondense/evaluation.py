# SPDX-License-Identifier: Apache-2.0
"""Evaluation of a run, an export or published weights on the test images of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional, Union

import mxnet as mx
import numpy as np
from mxnet import gluon

from .analysis.predictions import Predictions, evaluate
from .data.class_names import match_classes, warn_of_positions
from .data.datasets.imagenet import ImageFiles, open_images, unique_names
from .data.datasets.registry import DATASETS, load_dataset
from .data.files.sources import RelabeledSource
from .data.loaders.array import ArrayLoader
from .data.loaders.stream import StreamLoader
from .data.preprocessing import Preprocessing, adjust
from .data.transforms.image import EvalTransform
from .deploy.artifact import load_exported
from .deploy.artifact_files import ONNX_SUFFIX, SUFFIXES
from .errors import check_known
from .training.checkpoint import load
from .training.config import TrainConfig
from .training.data import Data
from .training.sections import DataConfig
from .weights.catalog import find_weights
from .weights.published import PublishedError, published_errors
from .zoo import get_model


@dataclass(frozen=True)
class EvaluatedModel:
    """The model under evaluation: a network and the preprocessing of its images.

    Parameters
    ----------
    name
        Argument of :func:`open_model`.
    net
        A network that returns logits, or an export with any pre- and post-processing.
    preprocessing
        How its images are resized, cropped and normalized; None if unknown.
    class_names
        A label for each output, if known.
    model, weights
        Registry name of the network and name of its published weights; "" if there are none.
    config
        Data section of the configuration, if the model is a run.
    dataset
        Default of the data set, a key of ``DATASETS``.
    """

    name: str
    net: gluon.HybridBlock
    preprocessing: Optional[Preprocessing]
    class_names: Optional[tuple[str, ...]] = None
    model: str = ""
    weights: str = ""
    config: Optional[DataConfig] = None
    dataset: str = "imagenet"

    @property
    def takes_pixels(self) -> bool:
        """Whether the normalization is in the graph of an export."""
        return bool(getattr(getattr(self.net, "metadata", None), "preprocess", False))

    def adjusted(self, **fields: Any) -> EvaluatedModel:
        """Return the model with fields of its preprocessing changed, those that are not None."""
        if self.preprocessing is None and fields.get("input_size") is None:
            metadata = getattr(self.net, "metadata", None)
            fields["input_size"] = metadata.input_shape[2:] if metadata is not None else None
        return replace(self, preprocessing=adjust(self.preprocessing, **fields))

    def known_preprocessing(self) -> Preprocessing:
        """Return the preprocessing; a ValueError tells how to give it if it is unknown."""
        if self.preprocessing is None:
            raise ValueError(
                f"the preprocessing of {self.name} is unknown: give it, at least --mean and --std."
            )
        return self.preprocessing


def open_model(name: str, devices: Sequence[mx.Context]) -> EvaluatedModel:
    """Open a run folder, a checkpoint, an export or published weights.

    Parameters
    ----------
    name
        A folder, the prefix or a file of an export, or a name such as ``"densenet121.tv_in1k"`` of
        ``WEIGHTS``; the name of a network selects its first weights.
    devices
        Devices on which it runs. An export runs on the first one.

    Raises
    ------
    ValueError
        If the name is unknown, or an export returns features.
    OSError
        If a file cannot be read or downloaded.
    """
    if Path(name).is_dir():
        return _open_run(name, devices)
    if any(Path(f"{name}{suffix}").is_file() for suffix in ("", *SUFFIXES, ONNX_SUFFIX)):
        return _open_export(name, devices[0])
    return _open_weights(name, devices)


def _open_run(name: str, devices: Sequence[mx.Context]) -> EvaluatedModel:
    saved = load(name)
    config = TrainConfig.from_dict(saved.config).data
    net, names = saved.network(list(devices)), saved.class_names
    model = EvaluatedModel(name, net, saved.preprocessing, names, saved.model_name)
    return replace(model, config=config, dataset=config.dataset)


def _open_export(name: str, device: mx.Context) -> EvaluatedModel:
    net = load_exported(name, device)
    metadata = net.metadata
    if metadata.output == "features":
        raise ValueError(f"{name} returns features: evaluate an export of logits or probabilities.")
    names = metadata.class_names
    return EvaluatedModel(name, net, metadata.preprocessing, names, metadata.model or "")


def _open_weights(name: str, devices: Sequence[mx.Context]) -> EvaluatedModel:
    model, _, tag = name.partition(".")
    row = find_weights(model, tag or None)
    net = get_model(model, pretrained=row.tag, ctx=list(devices))
    names = tuple(net.classes)
    found = EvaluatedModel(name, net, row.preprocessing, names, model, row.name)
    return replace(found, dataset=row.dataset)


@dataclass(frozen=True)
class Evaluation:
    """The predictions of a model for all test images of a data set.

    Parameters
    ----------
    model, dataset, crops
        The model under evaluation, the name of the data set, and the crops per image.
    class_names, predictions
        A label for each class, and the predictions.
    skipped
        Number of images that could not be decoded.
    published
        Published errors of the same network on the same data set.
    """

    model: EvaluatedModel
    dataset: str
    crops: int
    class_names: tuple[str, ...]
    predictions: Predictions
    skipped: int
    published: list[PublishedError]

    def to_dict(self) -> dict[str, Any]:
        """Return all metrics, ready for JSON; the recall of a class without images is null."""
        recalls = self.predictions.recalls(len(self.class_names))
        return {
            "model": self.model.name,
            "network": self.model.model,
            "dataset": self.dataset,
            "images": int(self.predictions.readable.sum()),
            "skipped": self.skipped,
            "crops": self.crops,
            **_shown(self.model.known_preprocessing()),
            "top1": self.predictions.top_accuracy(1),
            "top5": self.predictions.top_accuracy(5),
            "loss": self.predictions.loss,
            "published": [vars(error) for error in self.published],
            "classes": {
                name: None if np.isnan(recall) else float(recall)
                for name, recall in zip(self.class_names, recalls)
            },
        }


def _shown(preprocessing: Preprocessing) -> dict[str, Any]:
    fields = {**preprocessing.to_dict(), "input_size": list(preprocessing.size)}
    first = ("input_size", "crop_ratio", "interpolation")
    return {**{name: fields.pop(name) for name in first}, **fields}


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
    data: Data,
    devices: Sequence[mx.Context],
    crops: int = 1,
    batch_size: int = 32,
    workers: int = 0,
    class_map: Optional[Mapping[str, str]] = None,
) -> Evaluation:
    """Classify all test images of a data set, whose classes are matched to the model's by name.

    Parameters
    ----------
    model, data
        From :func:`open_model` and :func:`open_test_data`.
    devices
        Devices among which each batch is split.
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
        If classes or channels of model and data differ, or ten crops are requested of arrays.
    """
    data = _with_labels_of(model, data, class_map)
    names, channels = data.info.class_names, model.known_preprocessing().channels
    if channels != data.info.in_channels:
        raise ValueError(
            f"{model.name} takes images of {channels} channels, "
            f"{data.info.name} has {data.info.in_channels}."
        )
    loader, skipped = _loader(model, data, crops, batch_size, workers), 0
    predictions = evaluate(model.net, loader, batch_size, devices)
    if predictions.top_classes.max() >= len(names):
        raise ValueError(f"{model.name} has other classes than the {len(names)} of the data.")
    if isinstance(loader, StreamLoader):
        skipped = len(loader.bad)
        loader.close()
    augmented = bool(model.config and model.config.augment)
    dataset = data.info.name
    published = published_errors(model.model, dataset, crops, augmented, weights=model.weights)
    return Evaluation(model, dataset, crops, names, predictions, skipped, published)


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
            "NAME.classes.txt beside NAME.rec, or map the names with evaluate --class-map."
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
        transform = EvalTransform(preprocessing, crops, normalized=not model.takes_pixels)
        count = len(data.info.class_names)
        return StreamLoader(data.test, transform, batch_size, workers=workers, classes=count)
    if crops != 1:
        raise ValueError(f"{crops} crops need image files; {data.info.name} is arrays: use 1.")
    mean, std = preprocessing.mean, preprocessing.std
    arrays, size = (data.test_images, data.test_labels), preprocessing.size
    if model.takes_pixels:
        return ArrayLoader(*arrays, batch_size, resize=size, mean=None, std=None)
    return ArrayLoader(*arrays, batch_size, resize=size, mean=mean, std=std)
