# SPDX-License-Identifier: Apache-2.0
"""Batches from encoded images, which worker processes decode and augment."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from ...errors import check_choice
from ..files.sources import BAD, Label, Source
from ..transforms.image import Transform
from .base import Batch
from .prepared import SLOTS, PreparedLoader, Task, image_rng, shared_array

_TRIES = 16  # maximum number of consecutive unreadable images
NO_LABEL = -1


class StreamLoader(PreparedLoader):
    """Batches of pixels and labels; each image is a function of (seed, epoch, index).

    Copies of a repeated image are a function of their number too. The result for an image depends
    neither on the number of processes nor on the batch size, so a run can be resumed exactly, on
    another machine too. All processes share the memory of a batch, which is overwritten when the
    next batch is requested; see :class:`.prepared.PreparedLoader`.

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
        indices = range(*(block or (0, len(source))))
        super().__init__(indices, batch_size, last, part, repeats, shuffle, seed, workers)
        check_choice("bad", bad, BAD)
        shapes = transform, source.label_shape
        data, labels = _shared_batches(-(-batch_size // part[1]), *shapes)
        self._start(_Preparer(source, transform, data, labels, shuffle, seed, bad, classes))


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

    def __call__(self, task: Task) -> list[tuple[str, str]]:
        """Prepare some images of a batch; return the unreadable ones and the reasons."""
        problems: list[tuple[str, str]] = []
        for row, (index, copy) in enumerate(task.chosen.tolist(), task.row):
            rng = image_rng(self.seed, task.epoch, index, copy)
            out = self.data[task.slot, row, ...]
            self.labels[task.slot, row] = self._prepare(index, rng, out, problems)
        return problems

    def batch(self, slot: int, epoch: int, batch: int, count: int) -> Batch:
        """Return a prepared batch, see :class:`.prepared.Preparer`."""
        return self.data[slot, :count], self.labels[slot, :count].copy()

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
    """Allocate the data and labels of the batches, see :func:`.prepared.shared_array`."""
    data = shared_array((SLOTS, batch_size, *transform.shape), transform.dtype)
    label_dtype = np.dtype(np.float32 if label_shape else np.int32)
    return data, shared_array((SLOTS, batch_size, *label_shape), label_dtype)
