# SPDX-License-Identifier: Apache-2.0
"""Calibration of int8 targets: the images and the options of the quantization."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import mxnet as mx
import numpy as np

from ...data.files.image_set import evenly_spaced, read_images
from ...data.preprocessing import Preprocessing
from ...errors import check, check_count, check_range
from ...graph.ranges import check_method

# Pixels per channel and batch. The memory of the tensors of a batch is proportional to it.
_BATCH_PIXELS = 100_000


@dataclasses.dataclass(frozen=True, eq=False)
class Calibration:
    """The images and options with which an int8 target is calibrated.

    Parameters
    ----------
    images
        An array (N, C, H, W), normalized as for the network; or an iterable of such batches, also
        a DataIter or pairs with labels; or a path to a folder of images or a RecordIO file, which
        get the preprocessing of the export.
    method
        ``"minmax"``, ``"percentile"`` or ``"entropy"``, see
        :func:`gluondense.graph.ranges.collect_ranges`.
    percentile
        For ``method="percentile"``, in (50, 100].
    count
        Largest number of images. They are taken at even distances from an array, a folder or an
        indexed RecordIO file, and from the beginning of an iterable.
    exclude
        Patterns (``fnmatch``) of the names of layers that stay in float32.
    max_changed
        Largest share of the images whose predicted class may change, 0 to 1. Layers are excluded
        from quantization, the most sensitive first, until no more images change. For multi-label
        networks: largest share of all labels' predictions.
    thresholds
        For multi-label networks: logits from which on each label is present, set by ``export``.
        None compares the most probable class.
    keep
        Deprecated alias of ``exclude``.

    Examples
    --------
    >>> Calibration.of(np.zeros((2, 3, 32, 32), "float32")).method
    'minmax'
    """

    images: Any
    method: str = "minmax"
    percentile: float = 99.99
    count: int = 256
    exclude: tuple[str, ...] = ()
    max_changed: float = 0.01
    thresholds: tuple[float, ...] | None = None
    keep: dataclasses.InitVar[tuple[str, ...] | None] = None

    def __post_init__(self, keep: tuple[str, ...] | None) -> None:
        if keep is not None:
            object.__setattr__(self, "exclude", keep)
        check_method(self.method, self.percentile)
        check_count("count", self.count)
        check_range("max_changed", self.max_changed, 0, 1)
        check("exclude", self.exclude, "a tuple of patterns", not isinstance(self.exclude, str))

    @classmethod
    def of(cls, value: Any) -> Calibration:
        """Return a Calibration as it is; wrap images in one with default options."""
        return value if isinstance(value, cls) else cls(value)

    def read(self, shape: Sequence[int], preprocessing: Preprocessing | None) -> Calibration:
        """Return a copy whose images are one float32 array (N, C, H, W).

        A ValueError is raised if there are none, or their shape, dtype or values are invalid.

        Parameters
        ----------
        shape
            Input shape (N, C, H, W) of the network; N is ignored.
        preprocessing
            For image files: their preprocessing.
        """
        _, channels, height, width = shape
        if isinstance(self.images, (str, os.PathLike)):
            if preprocessing is None:
                raise ValueError(
                    f"images in files ({self.images}) need the network's preprocessing, at least "
                    "its mean and std: give them too."
                )
            images = preprocessing.normalize(read_images(self.images, preprocessing, self.count))
        elif hasattr(self.images, "shape"):
            images = _float_array(self.images)
            images = images[evenly_spaced(len(images), self.count)] if images.ndim else images
        else:
            images = _take(self.images, self.count)
        if images.ndim != 4 or images.shape[1] != channels or not len(images):
            raise ValueError(
                f"the calibration's images have shape {images.shape}, but must be some of "
                f"(N, {channels}, {height}, {width})."
            )
        if not np.isfinite(images).all():
            raise ValueError("the calibration's images are not finite.")
        return dataclasses.replace(self, images=images)

    def batches(self) -> list[np.ndarray]:
        """Split the images, after :meth:`read`, into batches of a constant number of pixels."""
        size = max(1, _BATCH_PIXELS // int(np.prod(self.images.shape[2:])))
        return [self.images[start : start + size] for start in range(0, len(self.images), size)]


def _float_array(values: Any) -> np.ndarray:
    array = values.asnumpy() if isinstance(values, mx.nd.NDArray) else np.asarray(values)
    if array.dtype.kind != "f":
        raise ValueError(
            f"the calibration's images are {array.dtype}, but must be normalized floats: divide "
            "pixels by 255, subtract the mean and divide by the standard deviation."
        )
    return array.astype(np.float32, copy=False)


def _take(batches: Iterable[Any], count: int) -> np.ndarray:
    """Concatenate the first ``count`` images of an iterable of batches."""
    parts, missing = [], count
    if isinstance(batches, mx.io.DataIter):
        batches.reset()
    for batch in _batch_arrays(batches):
        parts.append(batch[:missing])
        missing -= len(parts[-1])
        if not missing:
            break
    if not parts:
        raise ValueError("the calibration has no images.")
    if len({part.shape[1:] for part in parts}) > 1:
        raise ValueError("the calibration's images must all have one shape.")
    return np.concatenate(parts)


def _batch_arrays(batches: Iterable[Any]) -> Iterator[np.ndarray]:
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
        array = _float_array(batch)
        yield array[: len(array) - padding] if array.ndim else array.reshape(0)
