# SPDX-License-Identifier: Apache-2.0
"""The interface between a task, which says what is learned, and the training loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable, ClassVar, Optional

import numpy as np
from mxnet import gluon
from mxnet.context import Context
from mxnet.ndarray import NDArray

from ...data.datasets.imagenet import ImageFiles
from ...data.datasets.registry import DatasetInfo
from ...data.loaders.base import Loader
from ...data.loaders.to_input import ToInput
from ...data.preprocessing import Preprocessing
from ..config import TrainConfig
from ..configuration.sections import TaskConfig
from ..data import make_test_loader, make_train_loader
from ..distributed.workers import Workers
from ..fine_tuning.freezing import is_classifier
from ..fine_tuning.pretrained import load_initial_weights
from ..run_preprocessing import choose_preprocessing
from .mix import Mix

Batches = Iterable[tuple[np.ndarray, np.ndarray]]  # images and labels
ReadImages = Callable[[np.ndarray], np.ndarray]


def evaluated_split(arrays: Mapping[str, np.ndarray]) -> str:
    """Return the split that a run's predictions are of; earlier versions did not save it."""
    return str(arrays.get("split", "test"))


@dataclass(frozen=True)
class Metric:
    """A number that a task measures after each epoch.

    Parameters
    ----------
    column
        Column of ``log.csv``, and key in a checkpoint's metrics and in event files.
    name
        The metric in words.
    title
        Label in the line that ends an epoch; "" leaves the metric out there.
    format
        Format specification of the value.
    higher_is_better
        Direction in which the metric improves.
    total
        For a metric of the training images: key of its running sum in a checkpoint.
    detail
        Whether its column follows the timings, as those of metrics added to older logs do.
    """

    column: str
    name: str
    title: str = ""
    format: str = ".2%"
    higher_is_better: bool = True
    total: str = ""
    detail: bool = False

    def show(self, row: Mapping[str, float]) -> str:
        """Return the value in a row of the log as text."""
        return f"{row[self.column]:{self.format}}"

    def best_row(self, log: Sequence[dict[str, float]]) -> dict[str, float]:
        """Return the best row of a log, the first of equal ones; an empty one for an empty log.

        Examples
        --------
        >>> loss = Metric("test_loss", "loss", higher_is_better=False)
        >>> loss.best_row([{"test_loss": 0.7}, {"test_loss": 0.6}])
        {'test_loss': 0.6}
        """
        best = max if self.higher_is_better else min
        return best(log, key=lambda row: row[self.column], default={})


class Task(ABC):
    """What a run learns. The loop, checkpoints and run folder know a task only by this interface.

    The static methods, which make the parts of a run before its task, get the whole configuration
    and the data set, see :func:`..data.open_data`.

    Parameters
    ----------
    config, info, devices
        The task's section of the configuration, the data set, and the devices of this process.

    Attributes
    ----------
    train_metrics
        Metrics that are means over the training images of an epoch; the first is the loss.
    loss_parts
        Those of ``train_metrics`` whose sum is the loss; by default none.
    test_metrics
        Metrics of the test set.
    best
        The metric that selects the best checkpoint.
    loss
        Block of the network's output and of :meth:`loss_targets`; gives (N,), or (N, parts) of
        which the sum is minimized.
    is_output
        Whether a parameter is one that ``head_epochs`` trains first, by its name.
    load_initial_weights
        Function that loads initial weights, see :mod:`..fine_tuning.pretrained`.
    """

    train_metrics: ClassVar[tuple[Metric, ...]]
    loss_parts: ClassVar[tuple[Metric, ...]] = ()
    test_metrics: ClassVar[tuple[Metric, ...]]
    best: ClassVar[Metric]
    loss: gluon.Block
    is_output = staticmethod(is_classifier)
    load_initial_weights = staticmethod(load_initial_weights)

    @abstractmethod
    def __init__(self, config: TaskConfig, info: DatasetInfo, devices: Sequence[Context]) -> None:
        """Load what the task needs; called after the network is initialized."""

    @staticmethod
    def preprocessing(config: TrainConfig, data: Any) -> Preprocessing:
        """Return the preprocessing of the images that are evaluated."""
        return choose_preprocessing(config.data, data.info, isinstance(data, ImageFiles))

    @staticmethod
    def train_loader(
        config: TrainConfig, data: Any, preprocessing: Preprocessing, workers: Workers
    ) -> Loader:
        """Make the loader of training images; each worker gets its part of each batch."""
        return make_train_loader(config, data, preprocessing, workers)

    @staticmethod
    def test_loader(
        config: TrainConfig, data: Any, preprocessing: Preprocessing, workers: Workers
    ) -> Loader:
        """Make the loader of test images; each worker gets a contiguous block of them."""
        return make_test_loader(config.data, data, preprocessing, workers)

    @staticmethod
    def network_fields(config: TrainConfig, data: Any) -> dict[str, Any]:
        """Return the fields of the network's spec that follow from the data set.

        By default an output for each class or label.
        """
        return {"classes": len(data.info.class_names)}

    @staticmethod
    def trained_block(net: gluon.HybridBlock) -> gluon.HybridBlock:
        """Return the block whose output the loss gets; by default the network.

        It has the network's parameters.
        """
        return net

    def attach(self, net: gluon.HybridBlock) -> None:  # noqa: B027 - optional
        """Look at the network before training; by default nothing."""

    @abstractmethod
    def targets(
        self, images: np.ndarray, labels: np.ndarray, rng: np.random.Generator, epochs_left: int
    ) -> tuple[Optional[Mix], np.ndarray]:
        """Return how the images of a training batch are mixed with each other, and the targets.

        ``images`` are those of the loader, see :class:`.ToInput`. ``rng`` is the random stream of
        this step; ``epochs_left`` includes the present epoch. None leaves the images as they are.
        """

    def loss_targets(self, images: Sequence[NDArray], targets: Sequence[NDArray]) -> list[NDArray]:
        """Return what the loss compares outputs with, for each device; by default the targets."""
        return list(targets)

    @abstractmethod
    def measure(self, loss: NDArray, output: NDArray, target: NDArray) -> NDArray:
        """Return the sums over a device's images of all ``train_metrics``, without waiting."""

    @abstractmethod
    def evaluate(
        self,
        net: gluon.HybridBlock,
        batches: Batches,
        batch_size: int,
        devices: Sequence[Context],
        to_input: ToInput,
    ) -> Any:
        """Return the predictions for test batches, whose ``arrays`` have one row an image."""

    @abstractmethod
    def metrics(self, predictions: Any) -> dict[str, float]:
        """Return all ``test_metrics`` by column."""

    @staticmethod
    def checkpoint_fields(predictions: Any) -> dict[str, Any]:
        """Return the fields of a checkpoint that follow from predictions; by default none."""
        return {}

    @staticmethod
    def report_arrays(predictions: Any, images: ReadImages) -> dict[str, np.ndarray]:
        """Return what the run's folder keeps of the best predictions; by default nothing.

        ``images`` returns the test images with the given indices, uint8 (n, H, W, C).
        """
        return {}

    @staticmethod
    def explain(
        net: gluon.HybridBlock, arrays: Mapping[str, np.ndarray], preprocessing: Preprocessing
    ) -> dict[str, np.ndarray]:
        """Return the explanations of predictions in the report; by default none.

        ``net`` is that of the best checkpoint, ``arrays`` are those of :meth:`report_arrays`. The
        result is added to them.
        """
        return {}

    @staticmethod
    def report_sections(
        arrays: Mapping[str, np.ndarray], class_names: Sequence[str]
    ) -> Iterable[str]:
        """Return HTML sections of the report about the best predictions; by default none.

        ``arrays`` are those of :meth:`report_arrays` and :meth:`explain`, and ``epoch``, counted
        from 1.
        """
        return ()
