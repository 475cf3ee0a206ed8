"""Batches for a network from arrays in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from ..transforms.batch import AUGMENTATIONS, normalize
from ..transforms.batch import resize as resize_batch

Batch = tuple[np.ndarray, np.ndarray]

_PREFETCH = 2


class ArrayLoader:
    """Batches of normalised images and labels, a pure function of (seed, epoch, batch number).

    Every batch has its own random stream, so an epoch resumed in the middle continues with the very
    batches that the uninterrupted one would have had. A thread prepares two batches ahead.

    Parameters
    ----------
    images
        uint8 (N, H, W, C).
    labels
        Integers (N,).
    batch_size
        Images a batch.
    shuffle
        A new order each epoch; else the order of the arrays.
    augment
        Names from ``AUGMENTATIONS``, applied in this order at the images' own size.
    resize
        Side, or (height, width), of the result; ``None`` keeps the images' size.
    mean, std
        One number a channel, for pixels scaled to [0, 1].
    seed
        A non-negative integer.
    last
        What to do with a last batch that is not full: ``"keep"`` or ``"discard"``.
    part
        Which part of each batch is yielded, and of how many: ``(1, 2)`` is the second half. Parts
        differ by at most one image, and all loaders of a set have equally many batches.

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
        mean: Sequence[float],
        std: Sequence[float],
        seed: int = 0,
        last: str = "keep",
        part: tuple[int, int] = (0, 1),
    ) -> None:
        _check_arrays(images, labels, mean, std)
        self._size = _target_size(resize, images.shape[1:3])
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} must be at least 1")
        if seed < 0:
            raise ValueError(f"seed={seed} must not be negative")
        if last not in ("keep", "discard"):
            raise ValueError(f"last={last!r} must be 'keep' or 'discard'")
        if last == "discard" and batch_size > len(images):
            raise ValueError(
                f"batch_size={batch_size} with last='discard' leaves no batch of {len(images)}"
                " images; choose a smaller batch_size or last='keep'"
            )
        if not 0 <= part[0] < part[1]:
            raise ValueError(f"part={part} must be a number from 0 up and how many there are")
        for name in augment:
            if name not in AUGMENTATIONS:
                known = ", ".join(AUGMENTATIONS)
                raise ValueError(f"augment has the unknown name {name!r}; choose from {known}")
        self._images = images
        self._labels = np.asarray(labels, np.int32)
        self._batch_size = batch_size
        self._shuffle = shuffle
        self._augmentations = [AUGMENTATIONS[name] for name in augment]
        self._mean, self._std = tuple(mean), tuple(std)
        self._seed = seed
        self._last = last
        self._part = part

    def __len__(self) -> int:
        full, rest = divmod(len(self._images), self._batch_size)
        return full + (self._last == "keep" and rest > 0)

    def count(self, index: int) -> int:
        """Return how many images the batch of that number has, over all its parts."""
        return min(self._batch_size, len(self._images) - index * self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Yield epoch 0, the only one of a loader that neither shuffles nor augments."""
        return self.batches(epoch=0)

    def batches(self, epoch: int, start: int = 0) -> Generator[Batch, None, None]:
        """Yield one epoch's batches: float32 (N, C, H, W) and int32 (N,).

        Parameters
        ----------
        epoch
            Non-negative; chooses the order and the augmentation.
        start
            Batches to skip, without preparing them.

        Raises
        ------
        ValueError
            For a negative ``epoch``, or a ``start`` outside 0 to ``len(loader)``.
        """
        check_position(epoch, start, len(self))
        return self._prefetched(epoch, start)

    def _prefetched(self, epoch: int, start: int) -> Generator[Batch, None, None]:
        order = self._order(epoch)
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

    def _order(self, epoch: int) -> np.ndarray | None:
        return self._rng(epoch).permutation(len(self._images)) if self._shuffle else None

    def _batch(self, order: np.ndarray | None, epoch: int, index: int) -> Batch:
        span = slice(index * self._batch_size, (index + 1) * self._batch_size)
        chosen = span if order is None else order[span]
        images = self._images[chosen]
        if self._augmentations:
            rng = self._rng(epoch, index)
            for augmentation in self._augmentations:
                images = augmentation(images, rng)
        # After the augmentation, whose random numbers are those of the whole batch: cheap on small
        # images, and many workers see exactly what one would.
        images, labels = (self._own(array) for array in (images, self._labels[chosen]))
        images = resize_batch(images, self._size)
        return normalize(images, self._mean, self._std), labels.copy()

    def _own(self, array: np.ndarray) -> np.ndarray:
        number, parts = self._part
        return np.array_split(array, parts)[number]

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=key))


def check_position(epoch: int, start: int, batches: int) -> None:
    """Make sure that a place to start from is there.

    Raises
    ------
    ValueError
        For a negative ``epoch``, or a ``start`` outside 0 to ``batches``.
    """
    if epoch < 0:
        raise ValueError(f"epoch={epoch} must not be negative")
    if not 0 <= start <= batches:
        raise ValueError(f"start={start} must lie between 0 and {batches}, the batches an epoch")


def _check_arrays(
    images: np.ndarray, labels: np.ndarray, mean: Sequence[float], std: Sequence[float]
) -> None:
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(
            f"images must be uint8 (N, H, W, C), not {images.dtype} with shape {images.shape}"
        )
    if not len(images) or len(images) != len(labels):
        raise ValueError(
            f"images ({len(images)}) and labels ({len(labels)}) must be as many, and at least one"
        )
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != images.shape[3]:
            raise ValueError(
                f"{name}={tuple(values)} must have one number for each of the"
                f" {images.shape[3]} channels"
            )
    if min(std) <= 0:
        raise ValueError(f"std={tuple(std)} must be positive")


def _target_size(resize: int | tuple[int, int] | None, size: tuple[int, ...]) -> tuple[int, int]:
    if resize is None:
        resize = (size[0], size[1])
    height, width = (resize, resize) if isinstance(resize, int) else resize
    if min(height, width) < 1:
        raise ValueError(f"resize={resize} must be at least 1")
    return height, width
