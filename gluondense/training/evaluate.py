"""A network's answers on a whole data set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import mxnet as mx
import numpy as np
from mxnet import gluon


@dataclass(frozen=True)
class Evaluation:
    """What a network says about each image of a set.

    Parameters
    ----------
    probabilities
        Softmax of the logits, (N, classes).
    labels
        The true classes, (N,).
    """

    probabilities: np.ndarray
    labels: np.ndarray

    @property
    def accuracy(self) -> float:
        """Share of images whose likeliest class is the true one."""
        return float((self.probabilities.argmax(axis=1) == self.labels).mean())

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats, without label smoothing."""
        true = self.probabilities[np.arange(len(self.labels)), self.labels].astype(np.float64)
        return float(-np.log(np.maximum(true, np.finfo(np.float32).tiny)).mean())

    def mistakes(self) -> np.ndarray:
        """Find the wrongly classified images, those first of which the network was surest.

        Examples
        --------
        >>> said = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
        >>> Evaluation(said, np.array([1, 1, 1])).mistakes().tolist()
        [0, 2]
        """
        order = np.argsort(-self.probabilities.max(axis=1), kind="stable")
        wrong = self.probabilities.argmax(axis=1) != self.labels
        return order[wrong[order]]


def evaluate(
    net: gluon.HybridBlock,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    batch_size: int,
    devices: Sequence[mx.Context],
) -> Evaluation:
    """Run the network over all batches; each image counts once.

    Parameters
    ----------
    batches
        Pairs of images (N, C, H, W) and labels (N,).
    batch_size
        Size that a ragged batch is padded to, so that the static graph has one shape.
    devices
        Devices that share each batch.
    """
    rows, truth, waiting = [], [], None
    for images, labels in batches:
        truth.append(labels)
        missing = batch_size - len(images)
        if missing > 0:
            images = np.concatenate([images, np.repeat(images[-1:], missing, axis=0)])
        parts = gluon.utils.split_and_load(images, list(devices), even_split=False)
        # A static graph may reuse its output's memory; the softmax is an array of its own.
        coming = [net(part).softmax(axis=1) for part in parts]
        if waiting is not None:
            rows.append(_fetch(*waiting))
        waiting = coming, len(labels)
    if waiting is not None:
        rows.append(_fetch(*waiting))
    _restore_layout(net, devices)
    return Evaluation(np.concatenate(rows), np.concatenate(truth))


def _restore_layout(net: gluon.HybridBlock, devices: Sequence[mx.Context]) -> None:
    # On the CPU, inference has oneDNN rearrange the weights in place, in the background. Training
    # from there picks other kernels, depending on when that was done, and rounds differently.
    if any(device.device_type == "cpu" for device in devices):
        net.collect_params().reset_ctx(list(devices))


def _fetch(parts: Sequence[mx.nd.NDArray], count: int) -> np.ndarray:
    return np.concatenate([part.asnumpy() for part in parts])[:count]
