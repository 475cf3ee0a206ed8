# SPDX-License-Identifier: Apache-2.0
"""Transforms from one encoded image to the network's input.

All linear colour operations (brightness, contrast, saturation, lighting and normalization) are
composed into one 3×4 matrix per image, so they cost as much as the normalization alone. The values
between the operations are not clipped to [0, 255].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Callable, Protocol

import cv2
import numpy as np

from ...errors import check, check_known
from ..files.decode import JPEGHeader, decode
from ..preprocessing import CROPS, Preprocessing
from .rand_augment import rand_augment

AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)  # of a random resized crop: Szegedy et al. 2015
JITTER, LIGHTING = 0.4, 0.1  # strengths, as in GluonCV's scripts
ERASE_SHARE, ERASE_AREA, ERASE_ASPECT = 0.5, (0.02, 1 / 3), 0.3  # timm's defaults
_TRIES = 10
_LUMA = np.array([0.299, 0.587, 0.114])
# Principal components of the colours of ImageNet's pixels in [0, 255] (Krizhevsky et al. 2012).
_EIGENVALUES = np.array([55.46, 4.794, 1.148])
_EIGENVECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)


class Transform(Protocol):
    """Makes the network's input from an encoded image."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result."""

    @property
    def dtype(self) -> str:
        """NumPy type of the result."""

    def __call__(self, data: bytes, name: str, rng: np.random.Generator, out: np.ndarray) -> None:
        """Write the input made from an image into ``out``, of ``shape`` and ``dtype``."""


Box = tuple[int, int, int, int]  # top, left, height, width


def random_box(height: int, width: int, rng: np.random.Generator) -> Box:
    """Draw the box of a random resized crop: 8 % to 100 % of the area, aspect ratio 3/4 to 4/3.

    If ten boxes in succession do not fit, it is the central box of the nearest aspect ratio, as in
    torchvision.

    Examples
    --------
    >>> top, left, height, width = random_box(100, 200, np.random.default_rng(0))
    >>> top + height <= 100 and left + width <= 200
    True
    """
    for _ in range(_TRIES):
        area = height * width * rng.uniform(*AREA)
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


def _color_jitter(color: np.ndarray, mean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
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


def _lighting(color: np.ndarray, mean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add noise along the principal components of ImageNet's colours."""
    color = color.copy()
    color[:, 3] += _EIGENVECTORS @ (rng.normal(0, LIGHTING, 3) * _EIGENVALUES)
    return color


# Names of ``TrainConfig.augment`` for images from files. A colour augmentation is a function of the
# 3×4 matrix, the mean colour and the random stream.
_COLORS: Mapping[str, Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]] = {
    "color_jitter": _color_jitter,
    "lighting": _lighting,
}
IMAGE_AUGMENTATIONS = ("random_resized_crop", "flip", "rand_augment", *_COLORS, "erase")


def erase_box(image: np.ndarray, rng: np.random.Generator) -> None:
    """Replace a random box of half of the normalized images (C, H, W) by noise of N(0, 1).

    The box has 2 % to a third of the area and an aspect ratio of 0.3 to 1 / 0.3. If ten boxes in
    succession do not fit, the image stays.

    References
    ----------
    Zhong et al., "Random Erasing Data Augmentation", algorithm 1; timm, ``RandomErasing`` with
    ``mode="pixel"`` and its default values.
    """
    if rng.random() >= ERASE_SHARE:
        return
    channels, height, width = image.shape
    for _ in range(_TRIES):
        area = height * width * rng.uniform(*ERASE_AREA)
        aspect = math.exp(rng.uniform(math.log(ERASE_ASPECT), -math.log(ERASE_ASPECT)))
        box_height, box_width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < box_height < height and 0 < box_width < width:
            top = int(rng.integers(0, height - box_height + 1))
            left = int(rng.integers(0, width - box_width + 1))
            noise = rng.standard_normal((channels, box_height, box_width), dtype=np.float32)
            image[:, top : top + box_height, left : left + box_width] = noise
            return


@dataclass(frozen=True)
class TrainTransform:
    """The transform of a training image: crop, augment, normalize, erase.

    Parameters
    ----------
    size
        Height and width of the result.
    augment
        Names from ``IMAGE_AUGMENTATIONS``, applied in the order of that tuple. Without
        ``"random_resized_crop"`` the largest central box is taken.
    mean, std
        Values per channel, for pixels scaled to [0, 1].
    invert
        Whether to invert the pixels before they are augmented.
    """

    size: tuple[int, int]
    augment: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    invert: bool = False

    def __post_init__(self) -> None:
        for name in self.augment:
            check_known("augmentation", name, IMAGE_AUGMENTATIONS)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result: (3, H, W)."""
        return (3, *self.size)

    @property
    def dtype(self) -> str:
        """Type of the result."""
        return "float32"

    def __call__(self, data: bytes, name: str, rng: np.random.Generator, out: np.ndarray) -> None:
        """Write the input made from an image into ``out``."""
        image = self._decode_crop(data, name, rng)
        if self.invert:
            image = 255 - image
        if "flip" in self.augment and rng.random() < 0.5:
            image = cv2.flip(image, 1)
        if "rand_augment" in self.augment:
            image = rand_augment(image, rng)
        color = np.eye(3, 4)
        for kind, change in _COLORS.items():
            if kind in self.augment:
                color = change(color, np.array(cv2.mean(image)[:3]), rng)
        write_input(image, color, self.mean, self.std, out)
        if "erase" in self.augment:
            erase_box(out, rng)

    def _decode_crop(self, data: bytes, name: str, rng: np.random.Generator) -> np.ndarray:
        """Decode, crop and resize an image to uint8 (H, W, 3)."""
        header = JPEGHeader.read(data)
        if "random_resized_crop" not in self.augment:
            image = decode(data, name, at_least=max(self.size))
            box = central_box(image.shape[0], image.shape[1], self.size)
        elif header is None or header.oriented:
            image = decode(data, name)
            box = random_box(image.shape[0], image.shape[1], rng)
        else:
            box = random_box(header.height, header.width, rng)
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
        How the image is decoded, resized, cropped and normalized.
    crops
        1 for the centre, or 10 for the four corners, the centre and the five mirrored.
    normalized
        Whether the result is the network's input, or pixels for an exported graph that normalizes
        them: uint8 (H, W, C).
    """

    preprocessing: Preprocessing
    crops: int = 1
    normalized: bool = True

    def __post_init__(self) -> None:
        check("crops", self.crops, "1 or 10", self.crops in CROPS)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result: (C, H, W) or pixels' (H, W, C), after the crops if there are 10."""
        channels, size = self.preprocessing.channels, self.preprocessing.size
        shape = (channels, *size) if self.normalized else (*size, channels)
        return shape if self.crops == 1 else (self.crops, *shape)

    @property
    def dtype(self) -> str:
        """Type of the result, float32 or uint8."""
        return "float32" if self.normalized else "uint8"

    def __call__(self, data: bytes, name: str, rng: np.random.Generator, out: np.ndarray) -> None:
        """Write the input made from an image into ``out``."""
        pixels = self.preprocessing.crops(data, name, self.crops)
        inputs = self.preprocessing.normalize(pixels) if self.normalized else pixels
        out[...] = inputs.reshape(out.shape)


def write_input(
    image: np.ndarray,
    color: np.ndarray,
    mean: Sequence[float],
    std: Sequence[float],
    out: np.ndarray,
) -> None:
    """Apply a 3×4 colour matrix to uint8 (H, W, 3), normalize and write to ``out`` (3, H, W)."""
    deviation = np.asarray(std) * 255
    matrix = color / deviation[:, None]
    matrix[:, 3] -= np.asarray(mean) * 255 / deviation
    changed = cv2.transform(image.astype(np.float32), matrix.astype(np.float32))
    cv2.mixChannels([changed], list(out), [0, 0, 1, 1, 2, 2])
