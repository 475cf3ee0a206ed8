# SPDX-License-Identifier: Apache-2.0
"""Augmented training images as bytes, and the network's input made from them on the host.

A record holds the pixels of an image, a quarter of the bytes of its float32 input, and what cannot
be applied to bytes: the colour matrix, and the noise of random erasing, which follows the
normalization. :class:`..loaders.to_input.ToInput` applies both on a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from .batch import normalize

ERASE_SHARE, ERASE_AREA, ERASE_ASPECT = 0.5, (0.02, 1 / 3), 0.3  # timm's defaults
_TRIES = 10


def augmented_dtype(size: tuple[int, int], colored: bool, erased: bool) -> np.dtype:
    """Return the type of the record of an image of ``size`` (height, width).

    ``pixels`` are uint8 (H, W, 3). If ``colored``, ``color`` is the 3×4 matrix of values in
    [0, 255]. If ``erased``, ``box`` is the erased one: top, left, height and width, 0 for none; and
    the first ``3 * height * width`` numbers of ``noise`` are its new values (3, height, width).

    Examples
    --------
    >>> augmented_dtype((8, 8), colored=True, erased=False).names
    ('pixels', 'color')
    """
    fields: list[tuple[str, type, tuple[int, ...]]] = [("pixels", np.uint8, (*size, 3))]
    if colored:
        fields.append(("color", np.float64, (3, 4)))
    if erased:
        fields += [("box", np.int32, (4,)), ("noise", np.float32, (3 * math.prod(size),))]
    return np.dtype(fields)


def pixels_of(images: np.ndarray) -> np.ndarray:
    """Return the pixels of a batch of a loader, uint8 (N, H, W, C)."""
    return images if images.dtype.names is None else images["pixels"]


def erase(record: np.ndarray, rng: np.random.Generator) -> None:
    """Draw the box and the noise of N(0, 1) that random erasing puts into half of the images.

    The box has 2 % to a third of the area and an aspect ratio of 0.3 to 1 / 0.3. If ten boxes in
    succession do not fit, the image stays.

    References
    ----------
    Zhong et al., "Random Erasing Data Augmentation", algorithm 1; timm, ``RandomErasing`` with
    ``mode="pixel"`` and its default values.
    """
    record["box"] = 0
    if rng.random() >= ERASE_SHARE:
        return
    height, width, channels = record["pixels"].shape
    for _ in range(_TRIES):
        area = height * width * rng.uniform(*ERASE_AREA)
        aspect = math.exp(rng.uniform(math.log(ERASE_ASPECT), -math.log(ERASE_ASPECT)))
        box_height, box_width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < box_height < height and 0 < box_width < width:
            top = int(rng.integers(0, height - box_height + 1))
            left = int(rng.integers(0, width - box_width + 1))
            record["box"] = top, left, box_height, box_width
            count = channels * box_height * box_width
            record["noise"][:count] = rng.standard_normal(count, dtype=np.float32)
            return


def input_matrices(records: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Return the matrices from pixels to inputs, float32 (N, 3, 4): colours, then normalization."""
    deviation = np.asarray(std) * 255
    colors = records["color"] if "color" in records.dtype.names else np.eye(3, 4)
    matrices = np.broadcast_to(colors, (len(records), 3, 4)) / deviation[:, None]
    matrices[:, :, 3] -= np.asarray(mean) * 255 / deviation
    return matrices.astype(np.float32)


def to_input(images: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Return the network's input, float32 (N, C, H, W), of pixels (N, H, W, C) or records (N,).

    ``mean`` and ``std`` are values per channel, for pixels scaled to [0, 1].
    """
    if images.dtype.names is None:
        return normalize(images, mean, std)
    count, height, width, channels = images["pixels"].shape
    inputs = np.empty((count, channels, height, width), np.float32)
    for record, matrix, planes in zip(images, input_matrices(images, mean, std), inputs):
        changed = cv2.transform(record["pixels"].astype(np.float32), matrix)
        cv2.mixChannels([changed], list(planes), [0, 0, 1, 1, 2, 2])
        if "box" in images.dtype.names:
            top, left, box_height, box_width = record["box"]
            noise = record["noise"][: channels * box_height * box_width]
            box = planes[:, top : top + box_height, left : left + box_width]
            box[...] = noise.reshape(box.shape)
    return inputs
