# SPDX-License-Identifier: Apache-2.0
"""The progress of a run: position, running means, clocks and log."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Callable

import mxnet as mx

STEPS_AHEAD = 2  # enough to keep the engine busy, few enough to stop soon and to hold few batches
TIMES = ("train_s", "wall_s", "cpu_s")


class Meter:
    """Running means over the images of an epoch, read late so that they do not stall the engine.

    ``add`` waits only for the step before the last ``STEPS_AHEAD``, which also bounds the engine's
    queue; ``sync`` waits for all steps.

    Parameters
    ----------
    names
        Names of the sums; the first is the loss.
    all_reduce
        Sums each of several numbers over all workers.

    Raises
    ------
    FloatingPointError
        If ``add`` or ``sync`` reads a loss that is not finite; the message names the step.
    """

    def __init__(
        self, names: Sequence[str], all_reduce: Callable[[Sequence[float]], Sequence[float]] = list
    ) -> None:
        self._all_reduce = all_reduce
        self._pending: deque[tuple[int, int, Sequence[mx.nd.NDArray]]] = deque()
        self.sums, self.images = dict.fromkeys(names, 0.0), 0  # of the images counted so far

    def reset(self) -> None:
        """Set all sums to 0."""
        self.sums, self.images = dict.fromkeys(self.sums, 0.0), 0

    def add(self, step: int, images: int, sums: Sequence[mx.nd.NDArray]) -> None:
        """Add a step, this process's images in it, and for each device a vector of their sums."""
        self._pending.append((step, images, sums))
        while len(self._pending) > STEPS_AHEAD:
            self._read()

    def sync(self) -> None:
        """Wait for all added steps."""
        while self._pending:
            self._read()

    def means(self) -> list[float]:
        """Return the means of the images counted so far, in the order of the names."""
        return [total / max(self.images, 1) for total in self.sums.values()]

    def _read(self) -> None:
        step, images, parts = self._pending.popleft()
        local = sum(part.asnumpy().ravel().astype(float) for part in parts)
        *sums, images_of_all = self._all_reduce([*local, images])
        if not math.isfinite(sums[0]):
            raise FloatingPointError(
                f"The loss became {sums[0]} at step {step}: "
                "lower the learning rate or lengthen the warm-up."
            )
        for name, value in zip(self.sums, sums):
            self.sums[name] += float(value)
        self.images += int(images_of_all)


class TrainState:
    """The position of a run, the time it took, and the rows of its log.

    Attributes
    ----------
    meter
        Running means of the epoch in progress.
    epoch, batch
        Finished epochs, and finished optimizer steps of the epoch in progress.
    train_s
        Seconds of training in this epoch.
    wall_s, cpu_s
        Seconds and CPU seconds of the run, over all resumes.
    log
        One row per finished epoch.
    """

    def __init__(self, steps_per_epoch: int, meter: Meter) -> None:
        self._steps_per_epoch, self.meter = steps_per_epoch, meter
        self.epoch = self.batch = 0
        self.train_s = self.wall_s = self.cpu_s = 0.0
        self.log: list[dict[str, float]] = []
        self._clock = time.perf_counter(), time.process_time()

    @property
    def step(self) -> int:
        """Number of finished optimizer steps."""
        return self.epoch * self._steps_per_epoch + self.batch

    @property
    def epochs(self) -> float:
        """Number of finished epochs and the finished part of the present one, to 4 digits."""
        return round(self.epoch + self.batch / self._steps_per_epoch, 4)

    @property
    def epoch_seconds(self) -> float:
        """Seconds of training in this epoch, up to now."""
        return self.train_s + time.perf_counter() - self._clock[0]

    def tick(self) -> float:
        """Add the time since the last tick to the run's total and return it."""
        before, self._clock = self._clock, (time.perf_counter(), time.process_time())
        self.wall_s += self._clock[0] - before[0]
        self.cpu_s += self._clock[1] - before[1]
        return self._clock[0] - before[0]

    def sync(self) -> None:
        """Wait for all steps and bring sums and times up to date; raises as :class:`Meter`."""
        self.meter.sync()
        # MXNet allows reads of BatchNorm's running statistics before backward has updated them.
        mx.nd.waitall()
        self.train_s += self.tick()

    def finish_epoch(self) -> None:
        """Move to the start of the next epoch."""
        self.epoch, self.batch, self.train_s = self.epoch + 1, 0, 0.0
        self.meter.reset()

    def progress(self) -> dict[str, Any]:
        """Return the position within the epoch, which :meth:`restore` takes."""
        times = {name: getattr(self, name) for name in TIMES}
        return {"batch": self.batch, **self.meter.sums, "images": self.meter.images, **times}

    def restore(self, epoch: int, progress: Mapping[str, Any]) -> None:
        """Continue at a saved position."""
        self.epoch, self.batch = epoch, progress["batch"]
        self.meter.sums = {name: progress[name] for name in self.meter.sums}
        self.meter.images = progress["images"]
        self.train_s, self.wall_s, self.cpu_s = (progress[name] for name in TIMES)


def whole(number: float) -> float:
    """Return a whole number as an integer, another one as it is.

    Examples
    --------
    >>> whole(3.0), whole(2.5)
    (3, 2.5)
    """
    return int(number) if number == int(number) else number
