# SPDX-License-Identifier: Apache-2.0
"""Several labels per image, learned by binary cross-entropy over the known ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import mxnet as mx
import numpy as np
from mxnet import gluon
from mxnet.ndarray import NDArray

from ...analysis.label_metrics import choose_thresholds, label_metrics
from ...analysis.multi_label import MultiLabelPredictions, evaluate
from ...data.datasets.registry import DatasetInfo
from ..configuration.sections import TaskConfig
from .base import Metric, Task
from .mix import Mix, draw_mix
from .multi_label_report import explain, report_arrays, report_sections

AUROC = Metric("test_auroc", "mean AUROC", "test AUROC", ".4f")


class MultiLabel(Task):
    """Several labels per image, each present (1), absent (0) or unknown (NaN).

    The loss is the binary cross-entropy, in which a positive counts as many times as there are
    negatives for each positive among the training images, see :func:`positive_weights`. Metrics
    are AUROC and average precision, averaged over the labels that have both values. Label
    smoothing, mixup and CutMix apply; a mixed label is unknown if it is in either image.

    Raises
    ------
    ValueError
        If a teacher is given, or a label has only one value among the training images.
    """

    train_metrics = (
        Metric("train_loss", "loss", "loss", ".4f", higher_is_better=False, total="loss_sum"),
    )
    test_metrics = (
        AUROC,
        Metric("test_ap", "mean average precision", "AP", ".4f"),
        Metric("test_loss", "loss", format=".4f", higher_is_better=False),
    )
    best = AUROC
    evaluate = staticmethod(evaluate)
    report_arrays = staticmethod(report_arrays)
    explain = staticmethod(explain)
    report_sections = staticmethod(report_sections)

    def __init__(
        self, config: TaskConfig, info: DatasetInfo, devices: Sequence[mx.Context]
    ) -> None:
        if config.teacher is not None:
            raise ValueError(
                f"`teacher` (={config.teacher!r}) is for one class per image: leave it out of a "
                "run with several labels."
            )
        self._config = config
        self.loss = MaskedBinaryCrossEntropy(positive_weights(info, config.max_positive_weight))
        self.loss.initialize(ctx=list(devices))

    def targets(
        self, images: np.ndarray, labels: np.ndarray, rng: np.random.Generator, epochs_left: int
    ) -> tuple[Optional[Mix], np.ndarray]:
        """Return targets (N, L), smoothed and mixed if configured; NaN is unknown."""
        config = self._config
        smoothing = np.float32(config.label_smoothing)
        targets = labels * (1 - smoothing) + smoothing / 2
        mix = draw_mix(images, config, rng, epochs_left)
        return mix, targets if mix is None else mix.targets(targets)

    def measure(self, loss: NDArray, output: NDArray, target: NDArray) -> NDArray:
        """Return the sum of the loss."""
        return loss.sum()

    def metrics(self, predictions: MultiLabelPredictions) -> dict[str, float]:
        """Return mean AUROC, mean average precision and loss on the test set.

        A ValueError is raised if no label has both values there.
        """
        found = label_metrics(predictions.labels, predictions.probabilities)
        if np.isnan(found.mean_auroc):
            raise ValueError(
                "no label is present in some validation images and absent in others, so there is "
                "no AUROC: choose other validation images."
            )
        return {
            "test_auroc": found.mean_auroc,
            "test_ap": found.mean_average_precision,
            "test_loss": predictions.loss,
        }

    @staticmethod
    def checkpoint_fields(predictions: MultiLabelPredictions) -> dict[str, Any]:
        """Return the thresholds with the largest F1 score on the test set."""
        chosen = choose_thresholds(predictions.labels, predictions.probabilities)
        return {"thresholds": chosen.tolist()}


def positive_weights(info: DatasetInfo, largest: float) -> np.ndarray:
    """Return the weight of a positive of each label in the loss, (L,).

    It is the number of negatives for each positive among the training images with a known value,
    limited to ``1 / largest`` to ``largest``.

    Examples
    --------
    >>> info = DatasetInfo("folder", ("a", "b"), (8, 8), (0,), (1,), counts=(30, 1), known=(90, 90))
    >>> positive_weights(info, largest=10).tolist()
    [2.0, 10.0]
    """
    if not info.known:
        raise ValueError(
            f"{info.name} has one class per image: train it with task classification, or give "
            "several labels per image."
        )
    for name, count, known in zip(info.class_names, info.counts, info.known):
        if not 0 < count < known:
            raise ValueError(
                f"label {name} is present in {count} of {known} training images where it is "
                "known, so it can't be learned: leave it out, or change the split."
            )
    positives = np.array(info.counts, np.float64)
    ratios = (np.array(info.known) - positives) / positives
    return np.clip(ratios, 1 / largest, largest).astype(np.float32)


class MaskedBinaryCrossEntropy(gluon.HybridBlock):
    """Binary cross-entropy of logits with a weight for the positives of each label.

    It is ``torch.nn.BCEWithLogitsLoss(pos_weight=…)`` with unknown labels counted as 0, stable for
    logits of any size. (``gluon.loss.SigmoidBCELoss`` with ``pos_weight`` has a wrong gradient for
    logits of exactly 0, where an output layer that is initialized with zeros starts.)

    Parameters
    ----------
    positive_weights
        (L,).

    Inputs
        - **output**: logits (N, L)
        - **target**: 0 to 1, or NaN for unknown, (N, L)

    Outputs
        - loss of each image, the mean over all L labels, (N,)
    """

    def __init__(self, positive_weights: np.ndarray) -> None:
        super().__init__()
        with self.name_scope():
            self.weight = self.params.get_constant("weight", positive_weights.reshape(1, -1))

    def hybrid_forward(self, F, output, target, weight):
        """Compute the loss."""
        known = target == target  # NaN differs from itself
        target = F.where(known, target, F.zeros_like(target))
        # softrelu(x) = log(1 + exp(x)), the cross-entropy with 0
        positive = F.broadcast_mul(weight, target * F.Activation(-output, act_type="softrelu"))
        negative = (1 - target) * F.Activation(output, act_type="softrelu")
        return F.mean((positive + negative) * known, axis=0, exclude=True)
