# SPDX-License-Identifier: Apache-2.0
"""Batches from encoded images, which worker processes decode and augment."""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Generator
from dataclasses import dataclass
from multiprocessing.util import Finalize

import numpy as np

from ...errors import check_choice, check_count
from ..files.sources import BAD, Label, Source
from ..transforms.image import Transform
from .base import Batch, Loader
from .processes import WorkerPool

_SLOTS = 3  # batches in memory: the one in use, and two that are being prepared
_TRIES = 16  # maximum number of consecutive unreadable images
NO_LABEL = -1


class StreamLoader(Loader):
    """Batches of pixels and labels; each image is a function of (seed, epoch, index).

    Copies of a repeated image are a function of their number too. The result for an image depends
    neither on the number of processes nor on the batch size, so a run can be resumed exactly, on
    another machine too. All processes share the memory of a batch, which is overwritten when the
    next batch is requested. The processes are forked by the constructor. They end with the loader
    or when this process ends for any reason.

    Parameters
    ----------
    source, transform
        The images, and the transform of each, whose type the batches have; see :class:`.ToInput`.
    batch_size, last, part, repeats
        As in :class:`.base.Loader`.
    shuffle
        Whether each epoch has a new random order instead of that of the source.
    seed
        A non-negative integer.
    workers
        Number of processes; 0 uses a thread of this process.
    bad
        What to do with an unreadable image. ``"skip"`` prints its name and replaces it by the next
        image when shuffling, else by zeros with the label -1, or NaN for each of several labels.
        ``"error"`` raises.
    classes
        Number of classes; a larger label is an error. So is another number of several labels.
    block
        First index and end of the section of the source to use; None uses all of it.

    Attributes
    ----------
    bad
        Unreadable images met so far: name and reason.
    """

    def __init__(
        self,
        source: Source,
        transform: Transform,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        last: str = "keep",
        workers: int = 0,
        bad: str = "skip",
        classes: int = sys.maxsize,
        part: tuple[int, int] = (0, 1),
        repeats: int = 1,
        block: tuple[int, int] | None = None,
    ) -> None:
        self._indices = range(*(block or (0, len(source))))
        super().__init__(len(self._indices), batch_size, last, part, repeats)
        check_choice("bad", bad, BAD)
        check_count("workers", workers, least=0)
        self._shuffle = shuffle
        shapes = transform, source.label_shape
        data, labels = _shared_batches(-(-batch_size // part[1]), *shapes)
        self._preparer = _Preparer(source, transform, data, labels, shuffle, seed, bad, classes)
        self.bad: dict[str, str] = {}
        self._pool = WorkerPool(self._preparer, workers)
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
        preparer, order = self._preparer, self._order(epoch)
        counts: list[int] = []
        for index in range(start, len(self) + _SLOTS - 1):
            if index < len(self):
                chosen = self._own(order[self._span(index)])
                counts.append(len(chosen))
                self._submit(index % _SLOTS, epoch, chosen)
            done = index - (_SLOTS - 1)
            if done >= start:
                self._collect()
                slot, count = done % _SLOTS, counts[done - start]
                yield preparer.data[slot, :count], preparer.labels[slot, :count].copy()

    def _order(self, epoch: int) -> np.ndarray:
        """Return the index and the number of the copy of each image of an epoch, (N, 2)."""
        indices = np.array(self._indices)
        if self._shuffle:
            indices = self._preparer.rng(epoch, self._indices.stop).permutation(indices)
        return np.stack(self._repeat(indices), axis=1)

    def _submit(self, slot: int, epoch: int, chosen: np.ndarray) -> None:
        row = 0
        for worker, part in enumerate(np.array_split(chosen, self._pool.count)):
            self._pool.submit(worker, (slot, row, epoch, part))
            row += len(part)

    def _collect(self) -> None:
        for worker in range(self._pool.count):
            for name, reason in self._pool.collect(worker):
                if name not in self.bad:
                    print(f"warning: skipped {name}: {reason}", file=sys.stderr, flush=True)
                self.bad[name] = reason


@dataclass(frozen=True)
class _Preparer:
    """The work of a process: read, transform and write images into the shared batches."""

    source: Source
    transform: Transform
    data: np.ndarray
    labels: np.ndarray
    shuffle: bool
    seed: int
    bad: str
    classes: int

    def __call__(self, task: tuple[int, int, int, np.ndarray]) -> list[tuple[str, str]]:
        """Prepare some images of a batch; return the unreadable ones and the reasons."""
        slot, first_row, epoch, chosen = task
        problems: list[tuple[str, str]] = []
        for row, (index, copy) in enumerate(chosen.tolist(), first_row):
            rng, out = self.rng(epoch, index, copy), self.data[slot, row, ...]
            self.labels[slot, row] = self._prepare(index, rng, out, problems)
        return problems

    def rng(self, epoch: int, index: int, copy: int = 0) -> np.random.Generator:
        key, counter = [self.seed, (epoch << 40) + index], [0, 0, 0, copy]
        return np.random.Generator(np.random.Philox(key=key, counter=counter))

    def _prepare(
        self,
        index: int,
        rng: np.random.Generator,
        out: np.ndarray,
        problems: list[tuple[str, str]],
    ) -> Label:
        """Write an image, or the next readable one, into ``out``; return its label."""
        for step in range(_TRIES if self.shuffle else 1):
            nearby = (index + step) % len(self.source)
            name = f"image {nearby}"
            try:
                data, label, name = self.source.read(nearby)
                self._check(label, name)
                self.transform(data, name, rng, out)
                return label
            except LabelError:
                raise
            except (ValueError, OSError) as error:
                reason = " ".join(str(error).split())
                if self.bad == "error":
                    raise ValueError(f"{reason}; or leave such images out: `bad` skip") from None
                problems.append((name, reason))
        if self.shuffle:
            raise ValueError(
                f"{_TRIES} consecutive images are unreadable, the last one: {problems[-1][1]}"
            )
        out[...] = 0
        return np.full(self.source.label_shape, np.nan) if self.source.label_shape else NO_LABEL

    def _check(self, label: Label, name: str) -> None:
        if isinstance(label, int):
            if not 0 <= label < self.classes:
                raise LabelError(
                    f"{name} has the label {label}, not one of the {self.classes} classes"
                )
        elif self.classes not in (len(label), sys.maxsize):
            raise LabelError(f"{name} has {len(label)} labels, not {self.classes}")


class LabelError(ValueError):
    """A label that the network has no output for. It is never skipped: the classes are wrong."""


def _shared_batches(
    batch_size: int, transform: Transform, label_shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Allocate the data and labels of the batches in memory that forked processes share.

    The mapping is anonymous because /dev/shm is small in containers and a named segment remains
    after a crash. The last process that ends frees it.
    """
    data = _shared((_SLOTS, batch_size, *transform.shape), transform.dtype)
    label_dtype = np.dtype(np.float32 if label_shape else np.int32)
    return data, _shared((_SLOTS, batch_size, *label_shape), label_dtype)


def _shared(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    memory = mmap.mmap(-1, dtype.itemsize * math.prod(shape))
    return np.frombuffer(memory, dtype).reshape(shape)
