# SPDX-License-Identifier: Apache-2.0
"""Batches of images and their boxes, which worker processes decode and augment."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ...errors import check, check_choice, check_count
from ..files.sources import BAD
from ..loaders.base import Batch
from ..loaders.prepared import SLOTS, PreparedLoader, Task, image_rng, shared_array
from .sample import COLUMNS, Sample
from .source import DetectionSource
from .transforms import DetectionTransform

STRIDE = 32  # of the coarsest scale: sizes are multiples of it
_TRIES = 16  # maximum number of consecutive unreadable images
_SIZE_STREAM = 1 << 62  # no copy of an image has this number
NO_LABEL = -1.0


class DetectionLoader(PreparedLoader):
    """Batches of pixels and boxes; each image is a function of (seed, epoch, index) and the size.

    The size of a batch's inputs is a function of (seed, epoch, batch). Neither depends on the
    number of processes, so a run can be resumed exactly.

    Parameters
    ----------
    source, transform
        The images, and the transform of each.
    batch_size, last, part, repeats
        As in :class:`..loaders.base.Loader`.
    sizes
        Sizes of the inputs, (height, width) in multiples of 32, of which ``interval`` successive
        batches have one at random. None is the preprocessing's size, which may be any.
    interval
        Number of batches of the same size.
    final, final_epoch
        Another transform for the epochs from ``final_epoch`` on, such as one without mosaic.
    max_boxes
        Number of labels of an image; more are left out.
    shuffle, seed, workers, block
        As in :class:`..loaders.stream.StreamLoader`.
    bad
        What to do with an unreadable image. ``"skip"`` prints its name and replaces it by the next
        image when shuffling, else by zeros without labels. ``"error"`` raises.

    Attributes
    ----------
    bad
        Unreadable images met so far: name and reason.
    """

    def __init__(
        self,
        source: DetectionSource,
        transform: DetectionTransform,
        batch_size: int,
        *,
        sizes: Sequence[tuple[int, int]] | None = None,
        interval: int = 10,
        final: DetectionTransform | None = None,
        final_epoch: int = 0,
        max_boxes: int = 100,
        shuffle: bool = False,
        seed: int = 0,
        last: str = "keep",
        workers: int = 0,
        bad: str = "skip",
        part: tuple[int, int] = (0, 1),
        repeats: int = 1,
        block: tuple[int, int] | None = None,
    ) -> None:
        indices = range(*(block or (0, len(source))))
        super().__init__(indices, batch_size, last, part, repeats, shuffle, seed, workers)
        check_choice("bad", bad, BAD)
        check_count("max_boxes", max_boxes)
        check_count("interval", interval)
        for size in sizes or ():
            check("sizes", size, f"multiples of {STRIDE}", not any(side % STRIDE for side in size))
        transforms = (transform, final, final_epoch)
        chosen = tuple(sizes or (transform.preprocessing.size,))
        rows = -(-batch_size // part[1])
        pixels = rows * max(math.prod(size) for size in chosen) * 3
        data = shared_array((SLOTS, pixels), np.dtype(np.uint8))
        labels = shared_array((SLOTS, rows, max_boxes, COLUMNS), np.dtype(np.float32))
        _warn_of_many_boxes(source, max_boxes)
        self._start(
            _Preparer(source, *transforms, data, labels, chosen, interval, shuffle, seed, bad)
        )


def _warn_of_many_boxes(source: DetectionSource, max_boxes: int) -> None:
    if source.most_boxes > max_boxes:
        print(
            f"warning: an image has {source.most_boxes} boxes, of which {max_boxes} are used; "
            "raise `max_boxes`",
            file=sys.stderr,
        )


class _Unreadable(ValueError):
    """An image that cannot be read and is not replaced."""


@dataclass(frozen=True)
class _Preparer:
    """The work of a process: read, transform and write images into the shared batches."""

    source: DetectionSource
    transform: DetectionTransform
    final: DetectionTransform | None
    final_epoch: int
    data: np.ndarray
    labels: np.ndarray
    sizes: tuple[tuple[int, int], ...]
    interval: int
    shuffle: bool
    seed: int
    bad: str

    def __call__(self, task: Task) -> list[tuple[str, str]]:
        """Prepare some images of a batch; return the unreadable ones and the reasons."""
        problems: list[tuple[str, str]] = []
        size = self._size(task.epoch, task.batch)
        is_final = task.epoch >= self.final_epoch
        transform = (self.final if is_final else None) or self.transform
        load = partial(self._load, transform=transform, size=size, problems=problems)
        pixels = self._pixels(task.slot, size, task.row + len(task.chosen))
        for row, (index, copy) in enumerate(task.chosen.tolist(), task.row):
            rng = image_rng(self.seed, task.epoch, index, copy)
            self.labels[task.slot, row] = NO_LABEL
            try:
                sample = transform(load, index, len(self.source), size, rng)
            except _Unreadable:
                pixels[row] = 0
                continue
            pixels[row] = sample.pixels
            labels = sample.labels[: self.labels.shape[2]]
            self.labels[task.slot, row, : len(labels)] = labels
        return problems

    def batch(self, slot: int, epoch: int, batch: int, count: int) -> Batch:
        """Return a prepared batch, see :class:`..loaders.prepared.Preparer`."""
        pixels = self._pixels(slot, self._size(epoch, batch), count)
        return pixels, self.labels[slot, :count].copy()

    def _pixels(self, slot: int, size: tuple[int, int], count: int) -> np.ndarray:
        """Return the pixels of the first ``count`` images of a batch, (count, H, W, 3)."""
        return self.data[slot, : count * math.prod(size) * 3].reshape(count, *size, 3)

    def _size(self, epoch: int, batch: int) -> tuple[int, int]:
        rng = image_rng(self.seed, epoch, batch // self.interval, _SIZE_STREAM)
        return self.sizes[int(rng.integers(len(self.sizes)))]

    def _load(
        self,
        index: int,
        transform: DetectionTransform,
        size: tuple[int, int],
        problems: list[tuple[str, str]],
    ) -> Sample:
        """Decode an image, or the next readable one when shuffling."""
        for step in range(_TRIES if self.shuffle else 1):
            nearby = (index + step) % len(self.source)
            try:
                image = self.source.read(nearby)
                return transform.decode(image, self.source.size(nearby), size)
            except (ValueError, OSError) as error:
                reason = " ".join(str(error).split())
                if self.bad == "error":
                    raise ValueError(f"{reason}; or leave such images out: `bad` skip") from None
                problems.append((self.source.name(nearby), reason))
        if self.shuffle:
            raise ValueError(
                f"{_TRIES} consecutive images are unreadable, the last one: {problems[-1][1]}"
            )
        raise _Unreadable
