# SPDX-License-Identifier: Apache-2.0
"""The description of a checkpoint, and the network that it holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import mxnet as mx
from mxnet import gluon

from ...analysis.costs import Summary, summary
from ...data.preprocessing import Preprocessing
from ...detection.registry import build_network, is_detector
from ...errors import in_one_line
from ...weights.formats.open import open_weights
from .. import optimizer
from ..config import TrainConfig
from .schema import AVERAGE, MODEL, PARAMS, STATES


@dataclass(frozen=True)
class Checkpoint:
    """The description of a checkpoint folder; its arrays are loaded on request.

    Parameters
    ----------
    folder, model_name, spec
        Path of the checkpoint, registry name and all fields of the network's spec.
    class_names, preprocessing
        Names of the outputs, and the preprocessing of images, also that of files, with which the
        network was validated.
    config
        The run's ``TrainConfig`` as a dictionary.
    epoch, step
        Finished epochs and optimizer steps.
    progress
        State for resuming: batch within the epoch, running sums, time spent.
    metrics, versions
        Accuracies and losses at the time of writing, and the software's versions.
    thresholds
        Probability from which each label of a multi-label network counts as present, chosen on
        the test set; None for classification and within an epoch.
    pretrained
        The weights that training started from: ``name``, ``sha256``, number of ``parameters``,
        ``output`` (``"new"`` or ``"loaded"``) and their ``preprocessing``; None for random ones.
    """

    folder: Path
    model_name: str
    spec: dict[str, Any]
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    config: dict[str, Any]
    epoch: int
    step: int
    progress: dict[str, Any]
    metrics: dict[str, float]
    versions: dict[str, str]
    thresholds: Optional[tuple[float, ...]] = None
    pretrained: Optional[dict[str, Any]] = None

    @property
    def task(self) -> str:
        """Name of what the network has learned, a key of ``TASKS``."""
        return TrainConfig.from_dict(self.config).task.name

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel, for pixels in [0, 1]."""
        return self.preprocessing.mean

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel."""
        return self.preprocessing.std

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape (1, C, H, W) of the input."""
        return self.preprocessing.input_shape

    def network(self, ctx: Any = None) -> gluon.HybridBlock:
        """Build the network and load its weights: the moving average if the run kept one.

        ``ctx`` is a device or a list of devices; default: the CPU. The network's attributes
        ``preprocessing``, ``task`` and ``thresholds`` are set.

        Raises a ValueError if the description and the weights don't belong together.
        """
        try:
            net = build_network(self.model_name, **self.spec)
        except (ValueError, mx.MXNetError) as error:
            reason = in_one_line(error)
            raise ValueError(f"{self.folder / MODEL} describes no network: {reason}") from None
        self.load_parameters(net, ctx, AVERAGE if (self.folder / AVERAGE).is_file() else PARAMS)
        net.preprocessing = self.preprocessing
        if is_detector(self.model_name):
            net.classes = self.class_names
        net.task, net.thresholds = self.task, self.thresholds
        return net

    def costs(self) -> Summary:
        """Count the costs of the network for an image, of a detector without the suppression."""
        net = build_network(self.model_name, **self.spec)
        return summary(getattr(net, "raw", net), self.input_shape)

    def load_parameters(self, net: gluon.HybridBlock, ctx: Any = None, name: str = PARAMS) -> None:
        """Load the weights into a network of the same spec, on a device or a list of devices."""
        path = self.folder / name
        open_weights(path).close()  # MXNet's reader trusts the sizes in a file
        try:
            net.load_parameters(str(path), ctx=ctx or mx.cpu())
        except AssertionError as error:
            reason = in_one_line(error)
            raise ValueError(f"{path} has other weights than its network ({reason}).") from None

    def load_states(self, trainer: gluon.Trainer) -> None:
        """Load the optimizer's states into a trainer of the same network."""
        path = self.folder / STATES
        open_weights(path).close()  # as above
        optimizer.restore_states(trainer, mx.nd.load(str(path)) or {})
