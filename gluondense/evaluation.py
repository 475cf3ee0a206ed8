"""Anything that classifies, a run, an export or published weights, on a whole test set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Optional

import mxnet as mx
import numpy as np
from mxnet import gluon

from .analysis.predictions import Predictions, evaluate
from .data import DATASETS, ArrayLoader, load_dataset
from .data.datasets.imagenet import ImageFiles, open_images
from .data.loaders.stream import StreamLoader
from .data.transforms.image import EvalTransform
from .deploy.artifact import load_exported
from .reports.page import document, plot, table
from .training import TrainConfig, load
from .training.data import Data
from .weights import find_weights
from .weights.published import PublishedError, published_errors
from .zoo import get_model


@dataclass(frozen=True)
class Subject:
    """What is evaluated, and what images it takes.

    Parameters
    ----------
    name
        What the user called it.
    net
        Gives logits.
    model, weights
        Names of the network, or "", and of its published weights, or "".
    class_names
        One an output; None if unknown.
    mean, std
        One number a channel, for pixels scaled to [0, 1].
    size, crop_ratio, interpolation
        Of the images.
    config
        Of the run that it comes from.
    """

    name: str
    net: gluon.HybridBlock
    model: str
    weights: str
    class_names: Optional[tuple[str, ...]]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int]
    crop_ratio: float = 0.875
    interpolation: str = "bilinear"
    config: Optional[TrainConfig] = None


def open_subject(name: str, devices: Sequence[mx.Context]) -> Subject:
    """Load a run's folder, a checkpoint, an export or published weights.

    Parameters
    ----------
    name
        A folder, an export's prefix or one of its files, or a name such as
        ``"densenet121.tv_in1k"`` of ``WEIGHTS``, or of a network, for its first weights.
    devices
        Where it runs.

    Raises
    ------
    ValueError
        If it is none of these, or doesn't say what images it takes.
    OSError
        If a file can't be had.
    """
    if Path(name).is_dir():
        saved = load(name)
        config = TrainConfig.from_dict(saved.config)
        height, width = saved.input_shape[2:]
        return Subject(
            name,
            saved.network(list(devices)),
            saved.model_name,
            "",
            saved.class_names,
            saved.mean,
            saved.std,
            (height, width),
            config.crop_ratio,
            config.interpolation,
            config,
        )
    if Path(f"{name}-symbol.json").is_file() or Path(name).is_file():
        return _exported(name, devices[0])
    model, _, tag = name.partition(".")
    row = find_weights(model, tag or None)
    net = get_model(model, pretrained=row.tag, ctx=list(devices))
    images = row.preprocessing
    side = images.input_size
    return Subject(
        name,
        net,
        model,
        row.name,
        None,
        images.mean,
        images.std,
        (side, side),
        images.crop_ratio,
        images.interpolation,
    )


def _exported(name: str, device: mx.Context) -> Subject:
    net = load_exported(name, device)
    about = net.metadata
    if about.mean is None or about.std is None:
        raise ValueError(f"{name} was exported without mean and std: export it again with them.")
    if about.preprocess or about.output != "logits":
        raise ValueError(
            f"{name} takes pixels or gives no logits: evaluate an export without these options."
        )
    height, width = about.input_shape[2:]
    return Subject(
        name, net, about.model or "", "", about.class_names, about.mean, about.std, (height, width)
    )


@dataclass(frozen=True)
class Report:
    """An evaluation with what it is of, ready to be printed and written."""

    subject: Subject
    dataset: str
    crops: int
    class_names: tuple[str, ...]
    answers: Predictions
    skipped: int
    published: list[PublishedError]

    def to_dict(self) -> dict[str, Any]:
        """All figures, ready for JSON; recalls of classes without images are null."""
        recalls = self.answers.recalls(len(self.class_names))
        return {
            "model": self.subject.name,
            "network": self.subject.model,
            "dataset": self.dataset,
            "images": int(self.answers.readable.sum()),
            "skipped": self.skipped,
            "crops": self.crops,
            "input_size": list(self.subject.size),
            "crop_ratio": self.subject.crop_ratio,
            "interpolation": self.subject.interpolation,
            "top1": self.answers.top_accuracy(1),
            "top5": self.answers.top_accuracy(5),
            "loss": self.answers.loss,
            "published": [vars(error) for error in self.published],
            "classes": {
                name: None if np.isnan(recall) else float(recall)
                for name, recall in zip(self.class_names, recalls)
            },
        }

    def lines(self, worst: int = 5) -> list[str]:
        """Say it in words, with the classes that are recognised worst."""
        figures = self.to_dict()
        crops = f"{self.crops} crop{'s' * (self.crops > 1)}"
        ours = 100 - 100 * figures["top1"], 100 - 100 * figures["top5"]
        lines = [
            f"{figures['images']:,} images of {self.dataset}, {crops}: "
            f"top-1 {figures['top1']:.3%}, top-5 {figures['top5']:.3%} "
            f"(error {ours[0]:.2f} / {ours[1]:.2f} %)"
        ]
        if self.skipped:
            lines.append(f"{self.skipped} could not be read and count nowhere")
        for error in self.published:
            both = f"{error.top1:.2f}" + ("" if error.top5 is None else f" / {error.top5:.2f}")
            lines.append(f"published: error {both} % ({error.source})")
        known = [(share, name) for name, share in figures["classes"].items() if share is not None]
        shares = ", ".join(f"{name} {share:.1%}" for share, name in sorted(known)[:worst])
        return [*lines, f"recognised worst: {shares}"]

    def page(self) -> str:
        """Give a page with all figures, which needs nothing but a browser."""
        # Imported here: plotly takes a second, and only pages need it.
        from .reports.figures import confusion_figure, recall_figure

        figures = self.to_dict()
        classes = figures.pop("classes")
        body = "".join(f"<p>{escape(line)}</p>" for line in self.lines())
        shares = {
            name: "no images" if share is None else f"{share:.1%}"
            for name, share in classes.items()
        }
        plots = (
            f'<div class="split">{plot(confusion_figure(self.answers, self.class_names))}'
            f"{plot(recall_figure(self.answers, self.class_names))}</div>"
        )
        del figures["published"]
        return document(
            f"{self.subject.model or self.subject.name} on {self.dataset}",
            f"evaluation of {figures['images']:,} images",
            f"<section>{body}</section><section><h2>Classes</h2>{plots}</section>"
            f'<section><div class="columns">{table("Evaluation", figures)}'
            f"{table('Recognised', shares)}</div></section>",
        )


def open_test_data(
    dataset: str,
    data_dir: Optional[str] = None,
    rec_val: Optional[str] = None,
    ground_truth: Optional[str] = None,
) -> Data:
    """Open a data set for its test images.

    Raises
    ------
    ValueError, OSError
        If it can't be had or is not what it should be.
    """
    if dataset == "imagenet":
        return open_images(data_dir, None, rec_val, ground_truth, training=False)
    if dataset not in DATASETS:
        raise ValueError(f"unknown data set {dataset!r}; choose from {', '.join(DATASETS)}")
    return load_dataset(dataset, data_dir)


def evaluate_subject(
    subject: Subject,
    data: Data,
    devices: Sequence[mx.Context],
    crops: int = 1,
    batch_size: int = 32,
    workers: int = 0,
) -> Report:
    """Classify all test images of a data set.

    Parameters
    ----------
    subject
        What classifies.
    data
        From :func:`open_test_data`.
    devices
        That share each batch.
    crops
        1 or 10 of each image, whose probabilities are averaged.
    batch_size
        Images a batch, over all devices, each of all its crops.
    workers
        Processes that prepare images from files.

    Raises
    ------
    ValueError
        If the classes or channels don't fit each other, or ten crops are asked of arrays.
    """
    names = data.info.class_names
    own = subject.class_names
    if own is not None and len(own) != len(names):
        raise ValueError(f"{subject.name} knows {len(own)} classes, the data has {len(names)}.")
    if len(subject.mean) != data.info.in_channels:
        raise ValueError(
            f"{subject.name} takes images of {len(subject.mean)} channels, "
            f"{data.info.name} has {data.info.in_channels}."
        )
    loader, skipped = _loader(subject, data, crops, batch_size, workers), 0
    answers = evaluate(subject.net, loader, batch_size, devices)
    if answers.top_classes.max() >= len(names):
        raise ValueError(f"{subject.name} has other classes than the {len(names)} of the data.")
    if isinstance(loader, StreamLoader):
        skipped = len(loader.bad)
        loader.close()
    augmented = bool(subject.config and subject.config.augment)
    published = published_errors(
        subject.model, data.info.name, crops, augmented, weights=subject.weights
    )
    return Report(subject, data.info.name, crops, own or names, answers, skipped, published)


def _loader(subject: Subject, data: Data, crops: int, batch_size: int, workers: int) -> Any:
    if isinstance(data, ImageFiles):
        transform = EvalTransform(
            subject.size,
            subject.mean,
            subject.std,
            subject.crop_ratio,
            subject.interpolation,
            crops,
        )
        count = len(data.info.class_names)
        return StreamLoader(data.test, transform, batch_size, workers=workers, classes=count)
    if crops != 1:
        raise ValueError(f"{crops} crops are of pictures in files; {data.info.name} has 1.")
    return ArrayLoader(
        data.test_images,
        data.test_labels,
        batch_size,
        resize=subject.size,
        mean=subject.mean,
        std=subject.std,
    )
