"""Batch transforms in NumPy: no Python code runs per sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Callable

import numpy as np

Augmentation = Callable[[np.ndarray, np.random.Generator], np.ndarray]

# OpenCV's bilinear resize of bytes works in fixed point with 11 bits for each weight.
_WEIGHT_ONE = 2048


def flip(batch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirror each image left to right with probability one half.

    Parameters
    ----------
    batch
        uint8 images (N, H, W, C); left untouched.
    rng
        Where the choices come from.

    Examples
    --------
    >>> batch = np.arange(3, dtype=np.uint8).reshape(1, 1, 3, 1)
    >>> sorted({tuple(flip(batch, np.random.default_rng(i)).ravel().tolist()) for i in range(9)})
    [(0, 1, 2), (2, 1, 0)]
    """
    chosen = rng.random(len(batch)) < 0.5
    return np.where(chosen[:, None, None, None], batch[:, :, ::-1], batch)


def crop(batch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shift each image by a few pixels, filling with black: pad, then crop at random.

    The padding is an eighth of the shorter side, between 1 and 4 pixels: 3 for 28×28, 4 for 32×32.

    Parameters
    ----------
    batch
        uint8 images (N, H, W, C); left untouched.
    rng
        Where the shifts come from.

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
    """Replace a random rectangle of every second image (on average) by noise.

    Random erasing with random values (Zhong et al., https://arxiv.org/abs/1708.04896, "RE-R"), with
    its area of 2 % to 40 % and aspect ratio of 0.3 to 1/0.3. A side that would be longer than the
    image is cut to it, where the authors draw again.

    Parameters
    ----------
    batch
        uint8 images (N, H, W, C); left untouched.
    rng
        Where the rectangles and the noise come from.

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
    """Make masks (N, size), each true over one random run of about the given length."""
    lengths = np.clip(np.rint(lengths), 1, size).astype(np.int64)
    starts = rng.integers(0, size - lengths + 1)[:, None]
    positions = np.arange(size)
    return (positions >= starts) & (positions < starts + lengths[:, None])


AUGMENTATIONS: Mapping[str, Augmentation] = {"flip": flip, "crop": crop, "erase": erase}


def resize(batch: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize bilinearly, to the very bytes of MXNet's ``transforms.Resize``.

    OpenCV's arithmetic, step by step: half-pixel centres, 11-bit fixed-point weights, columns
    first, then rows with each of the two terms cut to 2 fractional bits before the sum is rounded.

    Parameters
    ----------
    batch
        uint8 images (N, H, W, C).
    size
        Height and width of the result. (MXNet's transform takes width and height.)

    Examples
    --------
    >>> resize(np.array([0, 100], np.uint8).reshape(1, 1, 2, 1), (1, 4)).ravel().tolist()
    [0, 25, 75, 100]
    """
    height, width = batch.shape[1:3]
    if (height, width) == tuple(size):
        return batch
    left, right, weights = _taps(width, size[1])
    # Beyond the outermost pixel centres OpenCV zeroes the weight for columns, but not for rows.
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
    """Find the two source positions of each target pixel, and the weight of the second."""
    centers = ((np.arange(target) + 0.5) * (source / target) - 0.5).astype(np.float32)
    first = np.floor(centers)
    weights = np.rint((centers - first) * _WEIGHT_ONE).astype(np.int32)
    positions = first.astype(np.int64)
    limit = source - 1
    return np.clip(positions, 0, limit), np.clip(positions + 1, 0, limit), weights


def normalize(batch: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Make the network's input: ``(pixel / 255 - mean) / std`` as float32 (N, C, H, W).

    Parameters
    ----------
    batch
        uint8 images (N, H, W, C).
    mean, std
        One number a channel, for pixels scaled to [0, 1].

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
    """Return what :func:`normalize` multiplies bytes by and then adds, a float32 for each channel.

    Examples
    --------
    >>> [values.tolist() for values in scale_and_shift((0.5,), (1 / 255,))]
    [[1.0], [-127.5]]
    """
    deviation = np.asarray(std, np.float64)
    scale = (1 / (255 * deviation)).astype(np.float32)
    return scale, (-np.asarray(mean, np.float64) / deviation).astype(np.float32)
