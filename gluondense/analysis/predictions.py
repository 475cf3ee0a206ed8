# SPDX-License-Identifier: Apache-2.0
"""Predictions of a classifier for a whole data set, and the metrics computed from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..data.loaders.to_input import ToInput
from .tasks import ACTIVATIONS, check_classes, task_of

TOP = 5  # classes stored for each image


@dataclass(frozen=True)
class Predictions:
    """The most probable classes of each image of a data set, with the true labels.

    Parameters
    ----------
    top_classes, top_probabilities
        The five most probable classes in descending order and their probabilities, (N, 5); fewer
        columns for a network of fewer classes.
    true_probabilities
        Probability of the true class, (N,).
    labels
        True classes, (N,). Unreadable images have a negative label and are excluded from every
        metric.
    """

    top_classes: np.ndarray
    top_probabilities: np.ndarray
    true_probabilities: np.ndarray
    labels: np.ndarray

    @classmethod
    def from_probabilities(cls, probabilities: np.ndarray, labels: np.ndarray) -> Predictions:
        """Select the top classes from the probabilities of all classes, (N, classes).

        A ValueError is raised if a label is not one of the classes.

        Examples
        --------
        >>> probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
        >>> Predictions.from_probabilities(probabilities, np.array([1, 1, 0])).accuracy
        0.6666666666666666
        """
        if labels.max() >= probabilities.shape[1]:
            raise ValueError(
                f"the data has the class {labels.max()}, but the network has only "
                f"{probabilities.shape[1]} outputs."
            )
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP]
        true = np.take_along_axis(probabilities, np.maximum(labels, 0)[:, None], axis=1)[:, 0]
        chosen = np.take_along_axis(probabilities, order, axis=1)
        return cls(order.astype(np.int32), chosen, true, np.asarray(labels))

    @classmethod
    def concatenate(cls, parts: Sequence[Predictions]) -> Predictions:
        """Concatenate the predictions for consecutive parts of a data set."""
        columns = zip(*(part.arrays for part in parts))
        return cls(*(np.concatenate(column) for column in columns))

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """All fields in the order of the constructor."""
        return self.top_classes, self.top_probabilities, self.true_probabilities, self.labels

    @property
    def predicted(self) -> np.ndarray:
        """The most probable class of each image, (N,)."""
        return self.top_classes[:, 0]

    @property
    def readable(self) -> np.ndarray:
        """Mask of the images that could be decoded, (N,)."""
        return self.labels >= 0

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy, 0 to 1."""
        return self.top_accuracy(1)

    def top_accuracy(self, k: int) -> float:
        """Return the top-``k`` accuracy, 0 to 1, for ``k`` from 1 to 5."""
        hits = (self.top_classes[:, :k] == self.labels[:, None]).any(axis=1)
        return float(hits[self.readable].mean())

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """95 % interval of the top-1 accuracy (Wilson 1927), of the sampling of the images alone.

        Examples
        --------
        >>> probabilities = np.array([[0.9, 0.1]] * 100)
        >>> found = Predictions.from_probabilities(probabilities, np.repeat([0, 1], [93, 7]))
        >>> low, high = found.accuracy_interval
        >>> print(f"{low:.3f} {high:.3f}")
        0.863 0.966
        """
        z, count, share = 1.959964, int(self.readable.sum()), self.accuracy
        center = share + z * z / (2 * count)
        half = z * (share * (1 - share) / count + (z / (2 * count)) ** 2) ** 0.5
        scale = 1 + z * z / count
        return (center - half) / scale, (center + half) / scale

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats, without label smoothing."""
        true = self.true_probabilities[self.readable].astype(np.float64)
        return float(-np.log(np.maximum(true, np.finfo(np.float32).tiny)).mean())

    def recalls(self, classes: int) -> np.ndarray:
        """Return the recall of each class, (classes,); NaN for classes without images."""
        labels = self.labels[self.readable]
        hits = (self.predicted == self.labels)[self.readable]
        totals = np.bincount(labels, minlength=classes)
        with np.errstate(invalid="ignore"):
            return np.bincount(labels, hits, minlength=classes) / totals

    def misclassified(self) -> np.ndarray:
        """Return the indices of the misclassified images, most confident first.

        Examples
        --------
        >>> probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
        >>> found = Predictions.from_probabilities(probabilities, np.array([1, 1, 1]))
        >>> found.misclassified().tolist()
        [0, 2]
        """
        order = np.argsort(-self.top_probabilities[:, 0], kind="stable")
        wrong = (self.predicted != self.labels) & self.readable
        return order[wrong[order]]


def evaluate(
    net: gluon.HybridBlock,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    batch_size: int,
    devices: Sequence[mx.Context],
    to_input: Optional[ToInput] = None,
) -> Predictions:
    """Run a network on all batches; average the probabilities over the crops of an image.

    The network returns logits, or is an export that returns probabilities. Each batch of images,
    which may have a second axis of crops, and labels (N,) is split among the devices, where
    ``to_input`` makes the network's input; by default the images are the input. A batch smaller
    than ``batch_size`` is padded to it, so that the static graph keeps one shape.
    """
    parts = predict_batches(net, batches, batch_size, devices, "classification", to_input)
    return Predictions.concatenate([Predictions.from_probabilities(*part) for part in parts])


def predict_batches(
    net: gluon.HybridBlock,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    batch_size: int,
    devices: Sequence[mx.Context],
    task: str,
    to_input: Optional[ToInput] = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the probabilities (N, classes) and the labels of each batch, see :func:`evaluate`.

    ``task`` is what the network has learned, a key of ``ACTIVATIONS``.
    """
    pending, to_input = None, to_input or ToInput()
    for images, labels in batches:
        labels = labels.copy()  # a loader may reuse its memory for the next batch
        crops = images.shape[1] if images.ndim == 5 else 1
        missing = batch_size - len(images)
        if missing > 0:
            images = np.concatenate([images, np.repeat(images[-1:], missing, axis=0)])
        if images.ndim == 5:
            images = images.reshape(-1, *images.shape[2:])
        shares = gluon.utils.split_data(images, len(devices), even_split=False)
        inputs = [to_input(share, device) for share, device in zip(shares, devices)]
        outputs = [to_probabilities(net, net(x), task) for x in inputs]
        # Fetch the previous batch while the devices compute this one.
        if pending is not None:
            yield _fetch(*pending)
        pending = outputs, labels, crops
    if pending is not None:
        yield _fetch(*pending)
    restore_layout(net, devices)


def to_probabilities(net: gluon.Block, outputs: Any, task: Optional[str] = None) -> mx.nd.NDArray:
    """Return the probabilities (N, classes) of a network's or an export's outputs, in new memory.

    ``task`` is by default that of the export or run. A ValueError is raised if the outputs are
    features.
    """
    check_classes(net, outputs)
    outputs = outputs.astype("float32")
    if getattr(getattr(net, "metadata", None), "output", "logits") == "probabilities":
        return outputs.copy()  # a static graph may reuse the memory of its output
    return getattr(mx.nd, ACTIVATIONS[task or task_of(net)].__name__)(outputs)


def restore_layout(net: gluon.HybridBlock, devices: Sequence[mx.Context]) -> None:
    """Return the parameters to MXNet's own layout after inference."""
    # On the CPU, inference has oneDNN reorder the weights in place, asynchronously. Training that
    # continues from there selects other kernels, depending on the timing, and rounds differently.
    if any(device.device_type == "cpu" for device in devices):
        net.collect_params().reset_ctx(list(devices))


def _fetch(
    shares: Sequence[mx.nd.NDArray], labels: np.ndarray, crops: int
) -> tuple[np.ndarray, np.ndarray]:
    rows = np.concatenate([share.asnumpy() for share in shares])
    rows = rows.reshape(-1, crops, rows.shape[1]).mean(axis=1) if crops > 1 else rows
    return rows[: len(labels)], labels
