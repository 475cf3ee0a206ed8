# SPDX-License-Identifier: Apache-2.0
"""Transforms from one encoded image to pixels, and to what is left for the device to compute.

All linear colour operations (brightness, contrast, saturation and lighting) are composed into one
3×4 matrix per image, which :mod:`.augmented` composes with the normalization, so they cost as much
as the normalization alone. The values between the operations are not clipped to [0, 255].
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Callable, Protocol

import cv2
import numpy as np

from ...errors import check, check_known, check_range
from ..files.decode import JPEGHeader, decode
from ..preprocessing import CROPS, Preprocessing
from .augmented import augmented_dtype, erase
from .rand_augment import rand_augment

MIN_AREA, ASPECT = 0.08, (3 / 4, 4 / 3)  # of a random resized crop: Szegedy et al. 2015
JITTER, LIGHTING = 0.4, 0.1  # strengths, as in GluonCV's scripts
_TRIES = 10
_LUMA = np.array([0.299, 0.587, 0.114])
# Principal components of the colours of ImageNet's pixels in [0, 255] (Krizhevsky et al. 2012).
_EIGENVALUES = np.array([55.46, 4.794, 1.148])
_EIGENVECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)


class Transform(Protocol):
    """Makes pixels of the network's input size from an encoded image."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result."""

    @property
    def dtype(self) -> np.dtype:
        """NumPy type of the result."""

    def __call__(self, data: bytes, name: str, rng: np.random.Generator, out: np.ndarray) -> None:
        """Write the result for an image into ``out``, of ``shape`` and ``dtype``."""


Box = tuple[int, int, int, int]  # top, left, height, width


def random_box(
    height: int, width: int, rng: np.random.Generator, min_area: float = MIN_AREA
) -> Box:
    """Draw the box of a random resized crop: ``min_area`` to all of the area, ratio 3/4 to 4/3.

    If ten boxes in succession do not fit, it is the central box of the nearest aspect ratio, as in
    torchvision.

    Examples
    --------
    >>> top, left, height, width = random_box(100, 200, np.random.default_rng(0))
    >>> top + height <= 100 and left + width <= 200
    True
    """
    for _ in range(_TRIES):
        area = height * width * rng.uniform(min_area, 1.0)
        aspect = math.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        box_width, box_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            top = int(rng.integers(0, height - box_height + 1))
            return top, int(rng.integers(0, width - box_width + 1)), box_height, box_width
    aspect = min(max(width / height, ASPECT[0]), ASPECT[1])
    return _centered(height, width, round(width / aspect), round(height * aspect))


def central_box(height: int, width: int, size: tuple[int, int]) -> Box:
    """Return the largest central box with the aspect ratio of ``size`` (height, width).

    Examples
    --------
    >>> central_box(100, 200, (10, 10))
    (0, 50, 100, 100)
    """
    scale = min(height / size[0], width / size[1])
    return _centered(height, width, round(size[0] * scale), round(size[1] * scale))


def _centered(height: int, width: int, box_height: int, box_width: int) -> Box:
    box_height, box_width = min(height, box_height), min(width, box_width)
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def _rescale(box: Box, old: tuple[int, int], new: tuple[int, ...]) -> Box:
    """Transfer a box from an image of one size to the same image of another size."""
    y_scale, x_scale = new[0] / old[0], new[1] / old[1]
    height, width = max(1, round(box[2] * y_scale)), max(1, round(box[3] * x_scale))
    top = min(round(box[0] * y_scale), new[0] - height)
    return top, min(round(box[1] * x_scale), new[1] - width), height, width


def color_jitter(color: np.ndarray, mean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change brightness, contrast and saturation, each by up to ±40 %, in a random order."""
    strengths = rng.uniform(1 - JITTER, 1 + JITTER, 3)
    for kind in rng.permutation(3):
        strength = strengths[kind]
        if kind == 0:
            color = strength * color
        elif kind == 1:
            grey = _LUMA @ (color[:, :3] @ mean + color[:, 3])
            color = strength * color
            color[:, 3] += (1 - strength) * grey
        else:
            mix = strength * np.eye(3) + (1 - strength) * np.outer(np.ones(3), _LUMA)
            color = mix @ color
    return color


def lighting(color: np.ndarray, mean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add noise along the principal components of ImageNet's colours."""
    color = color.copy()
    color[:, 3] += _EIGENVECTORS @ (rng.normal(0, LIGHTING, 3) * _EIGENVALUES)
    return color


# Names of ``TrainConfig.augment`` for images from files. A colour augmentation is a function of the
# 3×4 matrix, the mean colour and the random stream.
COLORS: Mapping[str, Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]] = {
    "color_jitter": color_jitter,
    "lighting": lighting,
}
IMAGE_AUGMENTATIONS = ("random_resized_crop", "flip", "rand_augment", *COLORS, "erase")


@dataclass(frozen=True)
class TrainTransform:
    """The transform of a training image: crop and augment; normalization and erasing follow.

    The result is a record, see :func:`.augmented.augmented_dtype`.

    Parameters
    ----------
    size
        Height and width of the result.
    augment
        Names from ``IMAGE_AUGMENTATIONS``, applied in the order of that tuple. Without
        ``"random_resized_crop"`` the largest central box is taken.
    invert
        Whether to invert the pixels before they are augmented.
    min_area
        Smallest share of the image that ``"random_resized_crop"`` takes, in (0, 1].
    """

    size: tuple[int, int]
    augment: tuple[str, ...]
    invert: bool = False
    min_area: float = MIN_AREA

    def __post_init__(self) -> None:
        for name in self.augment:
            check_known("augmentation", name, IMAGE_AUGMENTATIONS)
        check_range("min_area", self.min_area, 0, 1, closed="right")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result: (), one record."""
        return ()

    @property
    def dtype(self) -> np.dtype:
        """Type of the result."""
        colored = not COLORS.keys().isdisjoint(self.augment)
        return augmented_dtype(self.size, colored, "erase" in self.augment)

    def __call__(self, data: bytes, name: str, rng: np.random.Generator, out: np.ndarray) -> None:
        """Write the record of an image into ``out``."""
        image = self._decode_crop(data, name, rng)
        if self.invert:
            image = 255 - image
        if "flip" in self.augment and rng.random() < 0.5:
            image = cv2.flip(image, 1)
        if "rand_augment" in self.augment:
            image = rand_augment(image, rng)
        out["pixels"] = image
        colors = [change for kind, change in COLORS.items() if kind in self.augment]
        if colors:
            color, mean = np.eye(3, 4), np.array(cv2.mean(image)[:3])
            for change in colors:
                color = change(color, mean, rng)
            out["color"] = color
        if "erase" in self.augment:
            erase(out, rng)

    def _decode_crop(self, data: bytes, name: str, rng: np.random.Generator) -> np.ndarray:
        """Decode, crop and resize an image to uint8 (H, W, 3)."""
        header = JPEGHeader.read(data)
        if "random_resized_crop" not in self.augment:
            image = decode(data, name, at_least=max(self.size))
            box = central_box(image.shape[0], image.shape[1], self.size)
        elif header is None or header.oriented:
            image = decode(data, name)
            box = random_box(image.shape[0], image.shape[1], rng, self.min_area)
        else:
            box = random_box(header.height, header.width, rng, self.min_area)
            # Decode at the smallest size at which the box still has the pixels of the result.
            reduction = min(box[2] / self.size[0], box[3] / self.size[1])
            shorter = min(header.height, header.width)
            image = decode(data, name, at_least=math.ceil(shorter / reduction))
            box = _rescale(box, (header.height, header.width), image.shape)
        top, left, height, width = box
        crop = image[top : top + height, left : left + width]
        return cv2.resize(crop, self.size[::-1], interpolation=cv2.INTER_LINEAR)


@dataclass(frozen=True)
class EvalTransform:
    """The transform of an image for evaluation, as :class:`..preprocessing.Preprocessing` says.

    Parameters
    ----------
    preprocessing
        How the image is decoded, resized and cropped.
    crops
        1 for the centre, or 10 for the four corners, the centre and the five mirrored.
    """

    preprocessing: Preprocessing
    crops: int = 1

    def __post_init__(self) -> None:
        check("crops", self.crops, "1 or 10", self.crops in CROPS)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result: (H, W, C), or (10, H, W, C)."""
        shape = (*self.preprocessing.size, self.preprocessing.channels)
        return shape if self.crops == 1 else (self.crops, *shape)

    @property
    def dtype(self) -> np.dtype:
        """Type of the result."""
        return np.dtype(np.uint8)

    def __call__(self, data: bytes, name: str, rng: np.random.Generator, out: np.ndarray) -> None:
        """Write the pixels of an image into ``out``."""
        out[...] = self.preprocessing.crops(data, name, self.crops).reshape(out.shape)
