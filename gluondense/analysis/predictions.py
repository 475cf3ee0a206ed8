"""A network's answers on a whole data set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import mxnet as mx
import numpy as np
from mxnet import gluon

TOP = 5  # classes that are kept of each image's answer


@dataclass(frozen=True)
class Evaluation:
    """What a network says about each image of a set.

    Parameters
    ----------
    top_classes, top_probabilities
        The five likeliest classes, the likeliest first, and their probabilities, (N, 5); all
        classes where there are fewer.
    true_probabilities
        That of the true class, (N,).
    labels
        The true classes, (N,); below 0 for images that couldn't be read, which count nowhere.
    """

    top_classes: np.ndarray
    top_probabilities: np.ndarray
    true_probabilities: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, probabilities: np.ndarray, labels: np.ndarray) -> Evaluation:
        """Make it from the probabilities of all classes, (N, classes).

        Examples
        --------
        >>> said = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
        >>> Evaluation.of(said, np.array([1, 1, 0])).accuracy
        0.6666666666666666
        """
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP]
        true = np.take_along_axis(probabilities, np.maximum(labels, 0)[:, None], axis=1)[:, 0]
        chosen = np.take_along_axis(probabilities, order, axis=1)
        return cls(order.astype(np.int32), chosen, true, np.asarray(labels))

    @classmethod
    def join(cls, parts: Sequence[Evaluation]) -> Evaluation:
        """Put the answers to parts of a set behind each other."""
        columns = zip(*(part.arrays for part in parts))
        return cls(*(np.concatenate(column) for column in columns))

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """All fields, in their order."""
        return self.top_classes, self.top_probabilities, self.true_probabilities, self.labels

    @property
    def predicted(self) -> np.ndarray:
        """The likeliest classes, (N,)."""
        return self.top_classes[:, 0]

    @property
    def seen(self) -> np.ndarray:
        """Which images could be read, (N,)."""
        return self.labels >= 0

    @property
    def accuracy(self) -> float:
        """Share of images whose likeliest class is the true one."""
        return self.top_accuracy(1)

    def top_accuracy(self, k: int) -> float:
        """Share of images whose true class is among the ``k`` likeliest, 1 to 5."""
        hits = (self.top_classes[:, :k] == self.labels[:, None]).any(axis=1)
        return float(hits[self.seen].mean())

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats, without label smoothing."""
        true = self.true_probabilities[self.seen].astype(np.float64)
        return float(-np.log(np.maximum(true, np.finfo(np.float32).tiny)).mean())

    def recalls(self, classes: int) -> np.ndarray:
        """Share of each class's images that were recognised, (classes,); nan without images."""
        labels = self.labels[self.seen]
        hits = (self.predicted == self.labels)[self.seen]
        totals = np.bincount(labels, minlength=classes)
        with np.errstate(invalid="ignore"):
            return np.bincount(labels, hits, minlength=classes) / totals

    def mistakes(self) -> np.ndarray:
        """Find the wrongly classified images, those first of which the network was surest.

        Examples
        --------
        >>> said = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
        >>> Evaluation.of(said, np.array([1, 1, 1])).mistakes().tolist()
        [0, 2]
        """
        order = np.argsort(-self.top_probabilities[:, 0], kind="stable")
        wrong = (self.predicted != self.labels) & self.seen
        return order[wrong[order]]


def evaluate(
    net: gluon.HybridBlock,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    batch_size: int,
    devices: Sequence[mx.Context],
) -> Evaluation:
    """Run the network over all batches; each image counts once, as the mean of its crops.

    Parameters
    ----------
    batches
        Pairs of images (N, C, H, W), or (N, crops, C, H, W), and labels (N,).
    batch_size
        Size that a ragged batch is padded to, so that the static graph has one shape.
    devices
        Devices that share each batch.
    """
    parts: list[Evaluation] = []
    waiting = None
    for images, labels in batches:
        labels = labels.copy()  # a loader may use its memory for the next batch
        crops = images.shape[1] if images.ndim == 5 else 1
        missing = batch_size - len(images)
        if missing > 0:
            images = np.concatenate([images, np.repeat(images[-1:], missing, axis=0)])
        if images.ndim == 5:
            images = images.reshape(-1, *images.shape[2:])
        shares = gluon.utils.split_and_load(images, list(devices), even_split=False)
        # A static graph may reuse its output's memory; the softmax is an array of its own.
        coming = [net(share).astype("float32").softmax(axis=1) for share in shares]
        if waiting is not None:
            parts.append(_fetch(*waiting))
        waiting = coming, labels, crops
    if waiting is not None:
        parts.append(_fetch(*waiting))
    _restore_layout(net, devices)
    return Evaluation.join(parts)


def _restore_layout(net: gluon.HybridBlock, devices: Sequence[mx.Context]) -> None:
    # On the CPU, inference has oneDNN rearrange the weights in place, in the background. Training
    # from there picks other kernels, depending on when that was done, and rounds differently.
    if any(device.device_type == "cpu" for device in devices):
        net.collect_params().reset_ctx(list(devices))


def _fetch(shares: Sequence[mx.nd.NDArray], labels: np.ndarray, crops: int) -> Evaluation:
    rows = np.concatenate([share.asnumpy() for share in shares])
    rows = rows.reshape(-1, crops, rows.shape[1]).mean(axis=1) if crops > 1 else rows
    return Evaluation.of(rows[: len(labels)], labels)
