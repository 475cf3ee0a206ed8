"""The processes that train one network together: one alone."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Callable, Optional

import numpy as np
from mxnet import gluon

from ..config import TrainConfig


class Workers:
    """Who trains together; this class is the process that trains alone.

    Every method that talks to others must be called by all workers, in the same order.

    Parameters
    ----------
    config
        Its ``kvstore`` adds up the gradients of several devices.

    Attributes
    ----------
    rank, count
        Number of this worker, from 0, and how many there are.
    """

    rank = 0
    count = 1

    def __init__(self, config: TrainConfig) -> None:
        self._config = config

    @property
    def first(self) -> bool:
        """Whether this worker writes the run's folder and speaks to the user."""
        return self.rank == 0

    @property
    def key(self) -> tuple[int, ...]:
        """What a random stream's key gets besides, so that workers draw different numbers."""
        return (self.rank,) if self.count > 1 else ()

    def trainer(
        self, parameters: gluon.ParameterDict, optimizer: str, settings: Mapping[str, Any]
    ) -> gluon.Trainer:
        """Make the trainer; its store is started by :meth:`start`."""
        # Updates stay in this process, so that the learning rate and the states are in our hands.
        return gluon.Trainer(
            parameters,
            optimizer,
            dict(settings),
            kvstore=self._config.kvstore,
            update_on_kvstore=False,
        )

    def start(
        self, trainer: gluon.Trainer, schedule: Callable[[int], float], step: int = 0
    ) -> None:
        """Give all devices and workers the same parameters; call it before the first step.

        Parameters
        ----------
        trainer
            Whose parameters all have their shapes.
        schedule
            The learning rate of each step, for a server that updates.
        step
            Steps done before.
        """
        # Else the first step on several devices starts the store, after its forward pass, and its
        # broadcast undoes the first update of BatchNorm's running statistics.
        trainer.save_states(os.devnull)

    def step_size(self, images: int) -> float:
        """Return what the sum of gradients is divided by, for a batch of so many images in all."""
        return images

    def exchange(self, value: Any) -> list[Any]:
        """Give a value that JSON can hold to all workers; return theirs, by rank."""
        return [value]

    def sum(self, values: Sequence[float]) -> list[float]:
        """Add up each of the values over all workers."""
        return [sum(column) for column in zip(*self.exchange([float(v) for v in values]))]

    def any(self, *wishes: bool) -> list[bool]:
        """Tell for each wish whether any worker has it."""
        return [any(column) for column in zip(*self.exchange([bool(wish) for wish in wishes]))]

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """Concatenate the rows of all workers, by rank."""
        return rows

    def settle(self, net: gluon.Block, trainer: gluon.Trainer) -> None:
        """Make the networks of all workers equal, before they are evaluated or saved.

        Weights are equal already, but with ``dist_async``. BatchNorm's running statistics are of
        each worker's own images, and become the mean over all workers and devices.
        """

    def check_same(self, what: str, value: Any) -> None:
        """Make sure that all workers hold the same value.

        Raises
        ------
        ValueError
            If they don't.
        """
        values = self.exchange(value)
        if any(other != values[0] for other in values):
            raise ValueError(
                f"The workers have different {what}: {values}. Let all see the same run's folder "
                "and data, and give all the same command."
            )

    def close(self, error: Optional[BaseException] = None) -> None:
        """Leave together with all others, or at once because of an error."""
