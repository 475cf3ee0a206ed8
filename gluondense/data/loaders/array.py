# SPDX-License-Identifier: Apache-2.0
"""Batches from arrays in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from ...errors import check, check_count, check_known
from ..transforms.batch import AUGMENTATIONS, normalize
from ..transforms.batch import resize as resize_batch
from .base import Batch, Loader

_PREFETCH = 2


class ArrayLoader(Loader):
    """Batches of normalized images and labels, a function of (seed, epoch, batch number).

    Every batch has its own random stream, so an epoch that is resumed in the middle continues with
    the same batches as an uninterrupted one. A thread prepares two batches ahead.

    Parameters
    ----------
    images
        uint8 (N, H, W, C).
    labels
        Integers (N,), or multi-label (N, labels), NaN for unknown.
    batch_size, last, part, repeats
        As in :class:`.base.Loader`.
    shuffle
        Whether each epoch has a new random order instead of that of the arrays.
    augment
        Names from ``AUGMENTATIONS``, applied in this order before resizing.
    resize
        Side, or (height, width), of the result; None keeps the size of the images.
    mean, std
        Values per channel, for pixels scaled to [0, 1]. None for both yields pixels, uint8
        (N, H, W, C), for an exported graph that normalizes them.
    seed
        A non-negative integer.

    Raises
    ------
    ValueError
        If an argument is outside its range.

    Examples
    --------
    >>> images, labels = np.zeros((10, 8, 8, 1), np.uint8), np.arange(10)
    >>> loader = ArrayLoader(images, labels, 4, shuffle=True, mean=(0.5,), std=(0.5,))
    >>> [data.shape for data, label in loader.batches(epoch=0)]
    [(4, 1, 8, 8), (4, 1, 8, 8), (2, 1, 8, 8)]
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        batch_size: int,
        *,
        shuffle: bool = False,
        augment: Sequence[str] = (),
        resize: int | tuple[int, int] | None = None,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        seed: int = 0,
        last: str = "keep",
        part: tuple[int, int] = (0, 1),
        repeats: int = 1,
    ) -> None:
        _check_arrays(images, labels, mean, std)
        super().__init__(len(images), batch_size, last, part, repeats)
        check_count("seed", seed, least=0)
        for name in augment:
            check_known("augmentation", name, AUGMENTATIONS)
        self._size = _target_size(resize, images.shape[1:3])
        self._images = images
        self._labels = np.asarray(labels, np.float32 if np.ndim(labels) > 1 else np.int32)
        self._shuffle = shuffle
        self._augmentations = [AUGMENTATIONS[name] for name in augment]
        self._mean, self._std = mean, std
        self._seed = seed

    def _batches(self, epoch: int, start: int) -> Generator[Batch, None, None]:
        order = self._rng(epoch).permutation(len(self._images)) if self._shuffle else None
        if self._repeats > 1:
            order = self._repeat(np.arange(len(self._images)) if order is None else order)[0]
        pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="gluondense-loader")
        pending: deque[Future] = deque()
        try:
            for index in range(start, len(self)):
                pending.append(pool.submit(self._batch, order, epoch, index))
                if len(pending) > _PREFETCH:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
            pool.shutdown()

    def _batch(self, order: np.ndarray | None, epoch: int, index: int) -> Batch:
        span = self._span(index)
        chosen = span if order is None else order[span]
        images = self._images[chosen]
        if self._augmentations:
            rng = self._rng(epoch, index)
            for augmentation in self._augmentations:
                images = augmentation(images, rng)
        # The whole batch is augmented before it is split, so that its random numbers do not depend
        # on the number of workers. This is cheap for small images.
        images = resize_batch(self._own(images), self._size)
        labels = self._own(self._labels[chosen]).copy()
        if self._mean is None or self._std is None:
            return images, labels
        return normalize(images, self._mean, self._std), labels

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=key))


def _check_arrays(
    images: np.ndarray,
    labels: np.ndarray,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> None:
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(
            f"images must be uint8 (N, H, W, C), not {images.dtype} with shape {images.shape}"
        )
    if not len(images) or len(images) != len(labels):
        raise ValueError(
            f"images ({len(images)}) and labels ({len(labels)}) must be equal in number, at least 1"
        )
    if mean is None or std is None:
        check("mean and std", (mean, std), "given together", mean is std)
        return
    for name, values in (("mean", mean), ("std", std)):
        rule = f"one number for each of the {images.shape[3]} channels"
        check(name, tuple(values), rule, len(values) == images.shape[3])
    check("std", tuple(std), "positive", min(std) > 0)


def _target_size(resize: int | tuple[int, int] | None, size: tuple[int, ...]) -> tuple[int, int]:
    if resize is None:
        return size[0], size[1]
    height, width = (resize, resize) if isinstance(resize, int) else resize
    check("resize", resize, "at least 1", min(height, width) >= 1)
    return height, width
