"""Images of the user's own that tell a graph of 8 bits what its tensors hold."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import mxnet as mx
import numpy as np

from ...data.files.image_set import evenly_spaced, read_images
from ...data.transforms.batch import normalize
from ...graph.ranges import check_method

# Pixels of a batch: what one batch's tensors take in memory goes with it.
_BATCH_PIXELS = 100_000


@dataclasses.dataclass(frozen=True, eq=False)
class Calibration:
    """What a target of 8 bits is made with: images, and what is done with them.

    Parameters
    ----------
    images
        An array (N, C, H, W), normalized as for the network; or batches of such arrays, a DataIter
        or pairs with labels among them; or a path to a folder of pictures or a RecordIO file, which
        are scaled to the exported ``input_shape`` and normalized with its ``mean`` and ``std``.
    method
        ``"minmax"``, ``"percentile"`` or ``"entropy"``, as in
        :func:`gluondense.graph.ranges.collect_ranges`.
    percentile
        For ``method="percentile"``.
    count
        How many of the images to take at most; they are taken evenly from an array, a folder or an
        indexed RecordIO file, and from the beginning of batches.
    keep
        Patterns (``fnmatch``) of the names of layers that stay in float.
    max_changed
        Share of the images whose likeliest class may change; layers are put back to float, those
        that 8 bits harm most first, until no more do.

    Examples
    --------
    >>> Calibration.of(np.zeros((2, 3, 32, 32), "float32")).method
    'minmax'
    """

    images: Any
    method: str = "minmax"
    percentile: float = 99.99
    count: int = 256
    keep: tuple[str, ...] = ()
    max_changed: float = 0.01

    def __post_init__(self) -> None:
        check_method(self.method, self.percentile)
        if isinstance(self.count, bool) or not isinstance(self.count, int) or self.count < 1:
            raise ValueError(f"count (={self.count!r}) must be a positive integer.")
        if isinstance(self.keep, str):
            raise ValueError(f"keep (={self.keep!r}) must be a tuple of patterns.")
        if not 0 <= self.max_changed <= 1:
            raise ValueError(f"max_changed (={self.max_changed}) must lie between 0 and 1.")

    @classmethod
    def of(cls, value: Any) -> Calibration:
        """Make one of images alone, where it is none already."""
        return value if isinstance(value, cls) else cls(value)

    def read(
        self, shape: Sequence[int], mean: Sequence[float] | None, std: Sequence[float] | None
    ) -> Calibration:
        """Return the same with the images as one float32 array (N, C, H, W).

        Parameters
        ----------
        shape
            (N, C, H, W) that the network takes; N says nothing.
        mean, std
            For pictures: a number for each channel, of pixels scaled to [0, 1].

        Raises
        ------
        FileNotFoundError
            If there is nothing at the path.
        ValueError
            If there are no images or they are not fit.
        """
        _, channels, height, width = shape
        if isinstance(self.images, (str, os.PathLike)):
            if mean is None or std is None:
                raise ValueError(
                    f"pictures ({self.images}) are normalized with mean and std: give them too."
                )
            pictures = read_images(self.images, channels, (height, width), self.count)
            images = normalize(pictures, mean, std)
        elif hasattr(self.images, "shape"):
            images = _array(self.images)
            images = images[evenly_spaced(len(images), self.count)] if images.ndim else images
        else:
            images = _first(self.images, self.count)
        if images.ndim != 4 or images.shape[1] != channels or not len(images):
            raise ValueError(
                f"the calibration's images have shape {images.shape}, but must be some of "
                f"(N, {channels}, {height}, {width})."
            )
        if not np.isfinite(images).all():
            raise ValueError("the calibration's images are not finite.")
        return dataclasses.replace(self, images=images)

    def batches(self) -> list[np.ndarray]:
        """Cut the images, once read, into batches whose size depends on that of an image."""
        size = max(1, _BATCH_PIXELS // int(np.prod(self.images.shape[2:])))
        return [self.images[start : start + size] for start in range(0, len(self.images), size)]


def _array(values: Any) -> np.ndarray:
    array = values.asnumpy() if isinstance(values, mx.nd.NDArray) else np.asarray(values)
    if array.dtype.kind != "f":
        raise ValueError(
            f"the calibration's images are {array.dtype}, but must be normalized floats: divide "
            "pixels by 255, subtract the mean and divide by the standard deviation."
        )
    return array.astype(np.float32, copy=False)


def _first(batches: Iterable[Any], count: int) -> np.ndarray:
    """Join the first images of batches."""
    parts: list[np.ndarray] = []
    missing = count
    if isinstance(batches, mx.io.DataIter):
        batches.reset()
    for batch in _arrays(batches):
        parts.append(batch[:missing])
        missing -= len(parts[-1])
        if not missing:
            break
    if not parts:
        raise ValueError("the calibration has no images.")
    if len({part.shape[1:] for part in parts}) > 1:
        raise ValueError("the calibration's images must all have one shape.")
    return np.concatenate(parts)


def _arrays(batches: Iterable[Any]) -> Iterator[np.ndarray]:
    try:
        found = iter(batches)
    except TypeError:
        raise ValueError(
            f"the calibration's images are {type(batches).__name__}, but must be an array, batches "
            "of arrays, a folder or a RecordIO file."
        ) from None
    for batch in found:
        padding = 0
        if isinstance(batch, mx.io.DataBatch):
            batch, padding = batch.data[0], batch.pad or 0
        elif isinstance(batch, (list, tuple)):
            batch = batch[0]
        array = _array(batch)
        yield array[: len(array) - padding] if array.ndim else array.reshape(0)
