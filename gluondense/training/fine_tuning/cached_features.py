# SPDX-License-Identifier: Apache-2.0
"""Training of the output alone on features that are computed once."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon import nn

from ...blocks.head import mean_max_logits
from ...data.loaders.base import Batch, Loader
from ...data.loaders.to_input import ToInput
from ...models.network import Network


class Output(nn.HybridBlock):
    """The output of a network, from its features to the logits; it shares the parameters.

    Inputs
        ``net.features(images)``
    Outputs
        Logits ``(N, classes)``
    """

    def __init__(self, net: Network) -> None:
        super().__init__()
        self._averages = net.spec.pool == "avg"
        self.output = net.output

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Return the logits."""
        return self.output(x) if self._averages else mean_max_logits(F, x, self.output)


class FeatureLoader(Loader):
    """Batches of features and labels in memory, a function of (seed, epoch, batch number).

    Parameters
    ----------
    features, labels
        Arrays with a row for each image.
    batch_size, last
        As in :class:`gluondense.data.loaders.base.Loader`.
    shuffle, seed
        Whether each epoch has a new random order, and the seed of it.
    """

    def __init__(
        self,
        features: np.ndarray,
        labels: np.ndarray,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        last: str = "keep",
    ) -> None:
        super().__init__(len(features), batch_size, last)
        self.features, self.labels = features, labels
        self._shuffle, self._seed = shuffle, seed

    def _batches(self, epoch: int, start: int) -> Generator[Batch, None, None]:
        order = np.arange(len(self.features))
        if self._shuffle:
            key = np.random.SeedSequence(self._seed, spawn_key=(epoch,))
            order = np.random.default_rng(key).permutation(order)
        for index in range(start, len(self)):
            chosen = order[self._span(index)]
            yield self.features[chosen], self.labels[chosen]


def compute_features(
    net: Network, loader: Loader, to_input: ToInput, device: mx.Context, repair: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the features of all images of a loader, as in evaluation, and their labels.

    Unreadable images have the label -1, or NaN for each of several labels, which the loss ignores.
    With ``repair`` those of one class are replaced by the next readable image, as training loaders
    do; a ValueError is raised if there is none.
    """
    parts: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for images, batch_labels in loader:
        with autograd.predict_mode():
            parts.append(net.features(to_input(images, device)).asnumpy())
        labels.append(batch_labels.copy())
    features, found = np.concatenate(parts), np.concatenate(labels)
    if repair and found.ndim == 1 and (found < 0).any():
        good = np.flatnonzero(found >= 0)
        if not len(good):
            raise ValueError("none of the training images can be read.")
        nearest = good[np.searchsorted(good, np.arange(len(found))) % len(good)]
        features, found = features[nearest], found[nearest]
    return features, found
