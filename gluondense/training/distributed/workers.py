# SPDX-License-Identifier: Apache-2.0
"""Communication between the workers of a run; this module has the single-process case."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Callable, Optional

import numpy as np
from mxnet import gluon


class Workers:
    """The workers of a run; this class is a group of one process.

    Methods that communicate are collective: all workers must call them in the same order.

    Parameters
    ----------
    kvstore
        MXNet's key-value store, which sums the gradients of several devices.
    """

    rank = 0  # index of this worker
    world_size = 1  # number of workers

    def __init__(self, kvstore: str = "device") -> None:
        self._kvstore = kvstore

    @property
    def is_rank_zero(self) -> bool:
        """Whether this worker writes the run's folder and reports to the user."""
        return self.rank == 0

    @property
    def rng_key(self) -> tuple[int, ...]:
        """Integers to append to a random stream's key, so that workers draw different numbers."""
        return (self.rank,) if self.world_size > 1 else ()

    def make_trainer(
        self, parameters: gluon.ParameterDict, optimizer: str, settings: Mapping[str, Any]
    ) -> gluon.Trainer:
        """Create the trainer; :meth:`init_kvstore` initializes its store."""
        # Updates run in this process: the learning rate and the optimizer's states stay accessible.
        return gluon.Trainer(
            parameters, optimizer, dict(settings), kvstore=self._kvstore, update_on_kvstore=False
        )

    def init_kvstore(
        self, trainer: gluon.Trainer, schedule: Callable[[int], float], step: int = 0
    ) -> None:
        """Initialize the trainer's store, so that all devices and workers have equal parameters.

        Call it before the first step.

        Parameters
        ----------
        trainer, step
            A trainer whose parameters all have known shapes; number of steps already done.
        schedule
            Learning rate as a function of the step; used where servers update the weights.
        """
        # Otherwise the first step on several devices initializes the store after its forward pass,
        # and the broadcast replaces the running statistics of each device by those of the first.
        trainer.save_states(os.devnull)

    def step_batch_size(self, images: int) -> float:
        """Return the divisor of the summed gradients for a global batch of ``images`` images."""
        return images

    def all_gather(self, value: Any) -> list[Any]:
        """Return the values of all workers by rank; a value must be JSON-serializable."""
        return [value]

    def all_reduce(self, values: Sequence[float]) -> list[float]:
        """Sum each of the values over all workers."""
        return [sum(column) for column in zip(*self.all_gather([float(v) for v in values]))]

    def any(self, *flags: bool) -> list[bool]:
        """Return for each flag whether it is set on any worker."""
        return [any(column) for column in zip(*self.all_gather([bool(flag) for flag in flags]))]

    def all_gather_rows(self, rows: np.ndarray) -> np.ndarray:
        """Concatenate the rows of all workers by rank."""
        return rows

    def synchronize(self, net: gluon.Block, trainer: gluon.Trainer) -> None:
        """Make the networks of all workers equal before they are evaluated or saved.

        Weights differ only with ``dist_async``. BatchNorm's running statistics come from each
        worker's own images and are replaced by their mean over all workers and devices.
        """

    def check_equal(self, name: str, value: Any) -> None:
        """Raise a ValueError unless all workers have the same value."""
        values = self.all_gather(value)
        if any(other != values[0] for other in values):
            raise ValueError(
                f"The workers have different {name}: {values}. Give all of them the same command, "
                "run folder and data."
            )

    def close(self, error: Optional[BaseException] = None) -> None:
        """Wait for all workers and leave the group, or leave at once because of an error."""
