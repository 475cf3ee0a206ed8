# SPDX-License-Identifier: Apache-2.0
"""Predictions of a network with several labels per image for a whole data set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Optional

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..data.loaders.to_input import ToInput
from .label_metrics import label_metrics, row_means
from .predictions import predict_batches


@dataclass(frozen=True)
class MultiLabelPredictions:
    """Probabilities and true labels of each image of a data set.

    Parameters
    ----------
    probabilities
        Probability of each label, float32 (N, L).
    labels
        1, 0, or NaN for unknown, float32 (N, L). All labels of an unreadable image are unknown, so
        it is excluded from every metric.
    """

    probabilities: np.ndarray
    labels: np.ndarray

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """All fields in the order of the constructor."""
        return self.probabilities, self.labels

    @property
    def readable(self) -> np.ndarray:
        """Mask of the images with a known label, (N,)."""
        return ~np.isnan(self.labels).all(axis=1)

    @property
    def mean_auroc(self) -> float:
        """Mean AUROC over the labels that have both values; NaN if there are none."""
        return label_metrics(self.labels, self.probabilities).mean_auroc

    @property
    def loss(self) -> float:
        """Mean binary cross-entropy over the known labels in nats, without weights.

        Examples
        --------
        >>> labels = np.array([[1, np.nan], [0, 1]], np.float32)
        >>> MultiLabelPredictions(np.full((2, 2), 0.5, np.float32), labels).loss
        0.6931471805599453
        """
        return float(np.nanmean(self._entropies()))

    def losses(self) -> np.ndarray:
        """Return the mean cross-entropy of each image, (N,); NaN without a known label."""
        return row_means(self._entropies())

    def _entropies(self) -> np.ndarray:
        probabilities = self.probabilities.astype(np.float64)
        true = np.where(self.labels > 0, probabilities, 1 - probabilities)
        entropies = -np.log(np.maximum(true, np.finfo(np.float32).tiny))
        return np.where(np.isnan(self.labels), np.nan, entropies)


def evaluate(
    net: gluon.HybridBlock,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    batch_size: int,
    devices: Sequence[mx.Context],
    to_input: Optional[ToInput] = None,
) -> MultiLabelPredictions:
    """Run a network, which returns logits (N, L), on all batches of images and labels (N, L).

    Otherwise as :func:`gluondense.analysis.predictions.evaluate`.
    """
    parts = list(predict_batches(net, batches, batch_size, devices, "multi_label", to_input))
    probabilities, labels = (np.concatenate(column) for column in zip(*parts))
    if probabilities.shape != labels.shape:
        raise ValueError(
            f"the network has {probabilities.shape[1]} outputs, but the data has "
            f"{'' if labels.ndim < 2 else labels.shape[1]} labels of shape {labels.shape}."
        )
    return MultiLabelPredictions(probabilities, labels)
