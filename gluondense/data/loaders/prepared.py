# SPDX-License-Identifier: Apache-2.0
"""Batches that worker processes prepare in memory that they share with this process."""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Generator
from multiprocessing.util import Finalize
from typing import NamedTuple, Protocol

import numpy as np

from ...errors import check_count
from .base import Batch, Loader
from .processes import WorkerPool

SLOTS = 3  # batches in memory: the one in use, and two that are being prepared


class Task(NamedTuple):
    """Some images of a batch, for one worker.

    Attributes
    ----------
    slot, row
        Where the batch is in memory, and the row of the first image.
    epoch, batch
        The epoch, and the batch's number in it.
    chosen
        Index and number of the copy of each image, (n, 2).
    """

    slot: int
    row: int
    epoch: int
    batch: int
    chosen: np.ndarray


class Preparer(Protocol):
    """The work of a process: writes images and their labels into the shared batches."""

    def __call__(self, task: Task) -> list[tuple[str, str]]:
        """Prepare some images; return the names of the unreadable ones and the reasons."""

    def batch(self, slot: int, epoch: int, batch: int, count: int) -> Batch:
        """Return a prepared batch of ``count`` images, whose data is not copied."""


class PreparedLoader(Loader):
    """A loader whose batches a :class:`Preparer` writes, in worker processes or a thread.

    The processes are forked by the constructor of a subclass, which calls :meth:`_start`. They end
    with the loader or when this process ends for any reason.

    Parameters
    ----------
    indices
        The images of an epoch.
    batch_size, last, part, repeats
        As in :class:`.base.Loader`.
    shuffle, seed
        Whether each epoch has a new random order, a function of (seed, epoch).
    workers
        Number of processes; 0 uses a thread of this process.

    Attributes
    ----------
    bad
        Unreadable images met so far: name and reason.
    """

    def __init__(
        self,
        indices: range,
        batch_size: int,
        last: str,
        part: tuple[int, int],
        repeats: int,
        shuffle: bool,
        seed: int,
        workers: int,
    ) -> None:
        super().__init__(len(indices), batch_size, last, part, repeats)
        check_count("workers", workers, least=0)
        self._indices, self._shuffle, self._seed = indices, shuffle, seed
        self._workers = workers
        self.bad: dict[str, str] = {}

    def _start(self, preparer: Preparer) -> None:
        """Start the workers, with the arguments checked."""
        self._preparer = preparer
        self._pool = WorkerPool(preparer, self._workers)
        # Not of weakref: multiprocessing runs these at exit before it waits for its processes.
        self._finalizer = Finalize(self, self._pool.close, exitpriority=0)

    def close(self) -> None:
        """End the processes; the loader cannot be used afterwards."""
        self._finalizer()

    def batches(self, epoch: int, start: int = 0) -> Generator[Batch, None, None]:
        """Yield the batches of an epoch; a batch's data is valid until the next one is requested.

        The iteration raises a ValueError if a label is too large or, where ``bad`` is ``"error"``,
        an image is unreadable, and a ChildProcessError if a process dies.
        """
        return super().batches(epoch, start)

    def _batches(self, epoch: int, start: int) -> Generator[Batch, None, None]:
        self._pool.drain()  # tasks of an epoch that was left early
        order = self._order(epoch)
        counts: list[int] = []
        for index in range(start, len(self) + SLOTS - 1):
            if index < len(self):
                chosen = self._own(order[self._span(index)])
                counts.append(len(chosen))
                self._submit(epoch, index, chosen)
            done = index - (SLOTS - 1)
            if done >= start:
                self._collect()
                yield self._preparer.batch(done % SLOTS, epoch, done, counts[done - start])

    def _order(self, epoch: int) -> np.ndarray:
        """Return the index and the number of the copy of each image of an epoch, (N, 2)."""
        indices = np.array(self._indices)
        if self._shuffle:
            indices = image_rng(self._seed, epoch, self._indices.stop).permutation(indices)
        return np.stack(self._repeat(indices), axis=1)

    def _submit(self, epoch: int, batch: int, chosen: np.ndarray) -> None:
        row = 0
        for worker, part in enumerate(np.array_split(chosen, self._pool.count)):
            self._pool.submit(worker, Task(batch % SLOTS, row, epoch, batch, part))
            row += len(part)

    def _collect(self) -> None:
        for worker in range(self._pool.count):
            for name, reason in self._pool.collect(worker):
                if name not in self.bad:
                    print(f"warning: skipped {name}: {reason}", file=sys.stderr, flush=True)
                self.bad[name] = reason


def image_rng(seed: int, epoch: int, index: int, copy: int = 0) -> np.random.Generator:
    """Return the random stream of a copy of an image in an epoch."""
    key, counter = [seed, (epoch << 40) + index], [0, 0, 0, copy]
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def shared_array(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Allocate an array in memory that forked processes share.

    The mapping is anonymous because /dev/shm is small in containers and a named segment remains
    after a crash. The last process that ends frees it.
    """
    memory = mmap.mmap(-1, dtype.itemsize * math.prod(shape))
    return np.frombuffer(memory, dtype).reshape(shape)
