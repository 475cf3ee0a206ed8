# SPDX-License-Identifier: Apache-2.0
"""The interface of loaders, and the arithmetic of batches that they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator

import numpy as np

from ...errors import check, check_choice, check_count

Batch = tuple[np.ndarray, np.ndarray]
LAST_BATCHES = ("keep", "discard")


class Loader(ABC):
    """Batches of images and labels that depend only on (seed, epoch, batch number).

    Parameters
    ----------
    images, batch_size
        Number of images in an epoch and in a batch.
    last
        Whether an incomplete last batch is yielded: ``"keep"`` or ``"discard"``.
    part
        ``(index, count)``: the part of each batch that this loader yields. ``(1, 2)`` is the second
        half. Parts differ by at most one image, and all loaders of a set have the same number of
        batches.
    repeats
        Number of times that an image is in its batch, with different augmentations; see
        :meth:`_repeat`.
    """

    def __init__(
        self,
        images: int,
        batch_size: int,
        last: str = "keep",
        part: tuple[int, int] = (0, 1),
        repeats: int = 1,
    ) -> None:
        check_count("batch_size", batch_size)
        check_choice("last", last, LAST_BATCHES)
        if last == "discard" and batch_size > images:
            raise ValueError(
                f"batch_size (={batch_size}) leaves no complete batch of {images} images; choose a "
                "smaller one, or keep the incomplete batch"
            )
        check_count("repeats", repeats)
        holds = batch_size % repeats == 0
        check("batch_size", batch_size, f"a multiple of repeats (={repeats})", holds)
        check("part", part, "(index, count) with 0 <= index < count", 0 <= part[0] < part[1])
        self._image_count, self._batch_size = images, batch_size
        self._last, self._part, self._repeats = last, part, repeats

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        full, rest = divmod(self._image_count, self._batch_size)
        return full + (self._last == "keep" and rest > 0)

    def count(self, index: int) -> int:
        """Return the number of images in a batch, over all its parts."""
        return min(self._batch_size, self._image_count - index * self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of epoch 0, the only epoch without shuffling and augmentation."""
        return self.batches(epoch=0)

    def batches(self, epoch: int, start: int = 0) -> Generator[Batch, None, None]:
        """Yield the batches of an epoch from ``start`` on: images (N, …), labels int32 (N,).

        The images are what :class:`.to_input.ToInput` accepts. Multi-label data has labels float32
        (N, labels), NaN for unknown.

        ``epoch`` determines the order and the augmentation. Skipped batches are not prepared.
        """
        check_count("epoch", epoch, least=0)
        check("start", start, f"in [0, {len(self)}], the batches", 0 <= start <= len(self))
        return self._batches(epoch, start)

    @abstractmethod
    def _batches(self, epoch: int, start: int) -> Generator[Batch, None, None]: ...

    def _span(self, index: int) -> slice:
        """Return the positions of a batch in the order of an epoch."""
        return slice(index * self._batch_size, (index + 1) * self._batch_size)

    def _repeat(self, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the images of an epoch and which copy of its image each one is, from 0.

        A batch of ``repeats`` r has B / r different images, r times in succession, so that the
        parts of several workers have copies of the same images. As the epoch keeps its length, it
        has only 1 / r of the images of ``order``.

        References
        ----------
        Hoffer et al., "Augment your batch"; Berman et al., "MultiGrain", section 3.3; timm,
        ``data/distributed_sampler.py``, ``RepeatAugSampler``.
        """
        batch, place = np.divmod(np.arange(len(order)), self._batch_size)
        copy, first = np.divmod(place, self._batch_size // self._repeats)
        images = batch * (self._batch_size // self._repeats) + first
        return order[images % len(order)], copy

    def _own(self, array: np.ndarray) -> np.ndarray:
        """Return this loader's part of a batch."""
        number, parts = self._part
        return np.array_split(array, parts)[number]
