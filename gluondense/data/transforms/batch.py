# SPDX-License-Identifier: Apache-2.0
"""Vectorized NumPy transforms of batches of images.

Model archives contain a copy of this module, so it imports nothing of gluondense.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Callable

import numpy as np

# From uint8 images (N, H, W, C), which stay unmodified, and a source of random numbers.
Augmentation = Callable[[np.ndarray, np.random.Generator], np.ndarray]

# OpenCV's bilinear resize of bytes uses fixed-point weights of 11 bits.
_WEIGHT_ONE = 2048


def flip(batch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Flip each image horizontally with probability 0.5.

    Examples
    --------
    >>> batch = np.arange(3, dtype=np.uint8).reshape(1, 1, 3, 1)
    >>> sorted({tuple(flip(batch, np.random.default_rng(i)).ravel().tolist()) for i in range(9)})
    [(0, 1, 2), (2, 1, 0)]
    """
    chosen = rng.random(len(batch)) < 0.5
    return np.where(chosen[:, None, None, None], batch[:, :, ::-1], batch)


def crop(batch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pad each image with black and crop it to its size at a random position.

    The padding is an eighth of the shorter side, between 1 and 4 pixels: 3 for 28×28, 4 for 32×32.

    Examples
    --------
    >>> crop(np.ones((2, 28, 28, 1), np.uint8), np.random.default_rng(0)).shape
    (2, 28, 28, 1)
    """
    count, height, width, channels = batch.shape
    pad = min(4, max(1, min(height, width) // 8))
    padded = np.zeros((count, height + 2 * pad, width + 2 * pad, channels), batch.dtype)
    padded[:, pad : pad + height, pad : pad + width] = batch
    top, left = rng.integers(0, 2 * pad + 1, size=(2, count))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (1, height, width, channels))
    return windows[np.arange(count), top, left, 0, 0]


def erase(batch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Replace a random rectangle of each image by noise with probability 0.5.

    Random erasing with random values (Zhong et al., https://arxiv.org/abs/1708.04896, "RE-R"), with
    an area of 2 % to 40 % and an aspect ratio of 0.3 to 1/0.3. Deviation: a side longer than the
    image is clipped, whereas the authors draw again.

    Examples
    --------
    >>> erase(np.ones((2, 28, 28, 1), np.uint8), np.random.default_rng(0)).shape
    (2, 28, 28, 1)
    """
    count, height, width, _ = batch.shape
    area = rng.uniform(0.02, 0.4, count)
    aspect = np.exp(rng.uniform(np.log(0.3), np.log(1 / 0.3), count))
    rows = _random_span(height, height * np.sqrt(area * aspect), rng)
    columns = _random_span(width, width * np.sqrt(area / aspect), rng)
    chosen = rng.random(count) < 0.5
    inside = chosen[:, None, None] & rows[:, :, None] & columns[:, None, :]
    noise = rng.integers(0, 256, size=batch.shape, dtype=np.uint8)
    return np.where(inside[..., None], noise, batch)


def _random_span(size: int, lengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return masks (N, size), each true on a random interval of about the given length."""
    lengths = np.clip(np.rint(lengths), 1, size).astype(np.int64)
    starts = rng.integers(0, size - lengths + 1)[:, None]
    positions = np.arange(size)
    return (positions >= starts) & (positions < starts + lengths[:, None])


AUGMENTATIONS: Mapping[str, Augmentation] = {"flip": flip, "crop": crop, "erase": erase}


def resize(batch: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize uint8 images (N, H, W, C) bilinearly to ``size``, their new height and width.

    The result has the same bytes as MXNet's ``transforms.Resize`` (which takes width and height).
    This reproduces OpenCV's arithmetic: half-pixel centres, 11-bit fixed-point weights, columns
    first, then rows with both terms truncated to 2 fractional bits before the sum is rounded.

    Examples
    --------
    >>> resize(np.array([0, 100], np.uint8).reshape(1, 1, 2, 1), (1, 4)).ravel().tolist()
    [0, 25, 75, 100]
    """
    height, width = batch.shape[1:3]
    if (height, width) == tuple(size):
        return batch
    left, right, weights = _taps(width, size[1])
    # Outside the outermost pixel centres OpenCV sets the weight of columns to 0, but not of rows.
    weights = np.where(left == right, 0, weights)
    source = batch.astype(np.int32)
    wide = source[:, :, left] * (_WEIGHT_ONE - weights)[:, None]
    wide += source[:, :, right] * weights[:, None]
    wide >>= 4
    top, bottom, weights = _taps(height, size[0])
    result = (wide[:, top] * (_WEIGHT_ONE - weights)[:, None, None]) >> 16
    result += (wide[:, bottom] * weights[:, None, None]) >> 16
    return ((result + 2) >> 2).astype(np.uint8)


def _taps(source: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the two source positions of each target pixel and the weight of the second."""
    centers = ((np.arange(target) + 0.5) * (source / target) - 0.5).astype(np.float32)
    first = np.floor(centers)
    weights = np.rint((centers - first) * _WEIGHT_ONE).astype(np.int32)
    positions = first.astype(np.int64)
    limit = source - 1
    return np.clip(positions, 0, limit), np.clip(positions + 1, 0, limit), weights


def normalize(batch: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Normalize uint8 images (N, H, W, C): ``(pixel / 255 - mean) / std`` as float32 (N, C, H, W).

    ``mean`` and ``std`` are values per channel, for pixels scaled to [0, 1].

    Examples
    --------
    >>> normalize(np.full((1, 1, 1, 1), 255, np.uint8), (0.5,), (0.25,)).ravel().tolist()
    [2.0]
    """
    scale, shift = scale_and_shift(mean, std)
    count, height, width, channels = batch.shape
    data = np.empty((count, channels, height, width), np.float32)
    data[...] = batch.transpose(0, 3, 1, 2)
    data *= scale[:, None, None]
    data += shift[:, None, None]
    return data


def scale_and_shift(mean: Sequence[float], std: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return the float32 factor and offset per channel that :func:`normalize` applies to bytes.

    Examples
    --------
    >>> [values.tolist() for values in scale_and_shift((0.5,), (1 / 255,))]
    [[1.0], [-127.5]]
    """
    deviation = np.asarray(std, np.float64)
    scale = (1 / (255 * deviation)).astype(np.float32)
    return scale, (-np.asarray(mean, np.float64) / deviation).astype(np.float32)
