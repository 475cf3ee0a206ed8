# SPDX-License-Identifier: Apache-2.0
"""Augmentations of an image and its boxes: flips, rotations, crops and colours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Callable

import cv2
import numpy as np

from ..transforms.image import COLORS
from .sample import Sample, moved, visible

CROP_SHARE, CROP_AREA, CROP_ASPECT = 0.5, (0.3, 1.0), (1 / 2, 2.0)  # as in SSD
_TRIES = 10

Augmentation = Callable[[Sample, np.random.Generator], Sample]


def flip(sample: Sample, rng: np.random.Generator) -> Sample:
    """Flip horizontally with probability 0.5.

    Examples
    --------
    >>> one = Sample(np.zeros((5, 8, 3), np.uint8), np.array([[1, 0, 3, 2, 0, 1]], np.float32))
    >>> sorted({flip(one, np.random.default_rng(i)).labels[0, 0].item() for i in range(9)})
    [1.0, 5.0]
    """
    if rng.random() < 0.5:
        return sample
    labels = sample.labels.copy()
    labels[:, [0, 2]] = sample.size[1] - sample.labels[:, [2, 0]]
    return Sample(cv2.flip(sample.pixels, 1), labels)


def vertical_flip(sample: Sample, rng: np.random.Generator) -> Sample:
    """Flip vertically with probability 0.5, for images without an upright, as of microscopes."""
    if rng.random() < 0.5:
        return sample
    labels = sample.labels.copy()
    labels[:, [1, 3]] = sample.size[0] - sample.labels[:, [3, 1]]
    return Sample(cv2.flip(sample.pixels, 0), labels)


def transpose(sample: Sample, rng: np.random.Generator) -> Sample:
    """Exchange rows and columns with probability 0.5; with both flips, all rotations by 90°."""
    if rng.random() < 0.5:
        return sample
    return Sample(cv2.transpose(sample.pixels), sample.labels[:, [1, 0, 3, 2, 4, 5]])


def crop(sample: Sample, rng: np.random.Generator) -> Sample:
    """Crop a random rectangle with probability 0.5.

    It has 30 % to 100 % of the area and half to twice the aspect ratio of the image. If the image
    has boxes, the crop contains the center of one. If ten rectangles in succession do not, the
    image stays.
    """
    if rng.random() >= CROP_SHARE:
        return sample
    height, width = sample.size
    centers = (sample.labels[:, :2] + sample.labels[:, 2:4]) / 2
    for _ in range(_TRIES):
        area = rng.uniform(*CROP_AREA)
        aspect = math.exp(rng.uniform(math.log(CROP_ASPECT[0]), math.log(CROP_ASPECT[1])))
        new_width = max(1, round(width * math.sqrt(area * aspect)))
        new_height = max(1, round(height * math.sqrt(area / aspect)))
        if new_width > width or new_height > height:
            continue
        left = int(rng.integers(0, width - new_width + 1))
        top = int(rng.integers(0, height - new_height + 1))
        corners = left, top, left + new_width, top + new_height
        inside = (centers >= corners[:2]) & (centers < corners[2:])
        if len(centers) and not inside.all(axis=1).any():
            continue
        labels = moved(visible(sample.labels, corners), (1, 1), (-left, -top))
        return Sample(sample.pixels[top : corners[3], left : corners[2]], labels)
    return sample


def change_colors(sample: Sample, names: tuple[str, ...], rng: np.random.Generator) -> Sample:
    """Apply the colour augmentations of :mod:`..transforms.image`, as one matrix."""
    matrix, mean = np.eye(3, 4), np.array(cv2.mean(sample.pixels)[:3])
    for name in names:
        matrix = COLORS[name](matrix, mean, rng)
    return Sample(cv2.transform(sample.pixels, matrix), sample.labels)


# Applied to each image of an input before it is resized, in this order.
SINGLE: Mapping[str, Augmentation] = {
    "flip": flip,
    "vertical_flip": vertical_flip,
    "transpose": transpose,
    "crop": crop,
}
