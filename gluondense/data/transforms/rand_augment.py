# SPDX-License-Identifier: Apache-2.0
"""RandAugment: two random operations of the same magnitude on each image.

References
----------
Cubuk, Zoph, Shlens, Le: "RandAugment: Practical automated data augmentation with a reduced search
space", https://arxiv.org/abs/1909.13719. The operations and magnitudes are those of torchvision's
``RandAugment()``: N = 2, M = 9 of 30, and black outside the image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Callable

import cv2
import numpy as np
from PIL import Image, ImageEnhance, ImageOps

OPERATIONS, MAGNITUDE, LEVELS = 2, 9, 31


def _enhance(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Callable:
    def change(image: np.ndarray, strength: float) -> np.ndarray:
        return np.asarray(kind(Image.fromarray(image)).enhance(1 + strength))

    return change


def _pillow(operation: Callable[[Image.Image], Image.Image]) -> Callable:
    def change(image: np.ndarray, strength: float) -> np.ndarray:
        return np.asarray(operation(Image.fromarray(image)))

    return change


def _affine(matrix: Callable[[float, int, int], np.ndarray]) -> Callable:
    def change(image: np.ndarray, strength: float) -> np.ndarray:
        height, width = image.shape[:2]
        return cv2.warpAffine(
            image, matrix(strength, height, width), (width, height), flags=cv2.INTER_NEAREST
        )

    return change


def _rotation(degrees: float, height: int, width: int) -> np.ndarray:
    return cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)


def _shear_x(strength: float, height: int, width: int) -> np.ndarray:
    return np.array([[1, strength, -strength * (height - 1) / 2], [0, 1, 0]])


def _shear_y(strength: float, height: int, width: int) -> np.ndarray:
    return np.array([[1, 0, 0], [strength, 1, -strength * (width - 1) / 2]])


def _shift_x(strength: float, height: int, width: int) -> np.ndarray:
    return np.array([[1.0, 0, round(strength * width)], [0, 1, 0]])


def _shift_y(strength: float, height: int, width: int) -> np.ndarray:
    return np.array([[1.0, 0, 0], [0, 1, round(strength * height)]])


def _posterize(image: np.ndarray, bits: float) -> np.ndarray:
    return image & np.uint8(0xFF << (8 - round(bits)) & 0xFF)


def _solarize(image: np.ndarray, threshold: float) -> np.ndarray:
    return np.where(image >= threshold, 255 - image, image)


_SHARE = MAGNITUDE / (LEVELS - 1)
# operation -> function, strength, whether its sign is random
_TABLE: Mapping[str, tuple[Callable[[np.ndarray, float], np.ndarray], float, bool]] = {
    "identity": (lambda image, strength: image, 0.0, False),
    "shear_x": (_affine(_shear_x), math.tan(0.3 * _SHARE), True),
    "shear_y": (_affine(_shear_y), math.tan(0.3 * _SHARE), True),
    "shift_x": (_affine(_shift_x), 150 / 331 * _SHARE, True),
    "shift_y": (_affine(_shift_y), 150 / 331 * _SHARE, True),
    "rotate": (_affine(_rotation), 30 * _SHARE, True),
    "brightness": (_enhance(ImageEnhance.Brightness), 0.9 * _SHARE, True),
    "color": (_enhance(ImageEnhance.Color), 0.9 * _SHARE, True),
    "contrast": (_enhance(ImageEnhance.Contrast), 0.9 * _SHARE, True),
    "sharpness": (_enhance(ImageEnhance.Sharpness), 0.9 * _SHARE, True),
    "posterize": (_posterize, 8 - round(MAGNITUDE / ((LEVELS - 1) / 4)), False),
    "solarize": (_solarize, 255 * (1 - _SHARE), False),
    "autocontrast": (_pillow(ImageOps.autocontrast), 0.0, False),
    "equalize": (_pillow(ImageOps.equalize), 0.0, False),
}
_NAMES = tuple(_TABLE)


def rand_augment(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Apply two operations, drawn with replacement, to a copy of an image uint8 (H, W, 3).

    Examples
    --------
    >>> rand_augment(np.zeros((8, 8, 3), np.uint8), np.random.default_rng(0)).shape
    (8, 8, 3)
    """
    for chosen in rng.integers(0, len(_NAMES), OPERATIONS):
        change, strength, signed = _TABLE[_NAMES[chosen]]
        if signed and rng.random() < 0.5:
            strength = -strength
        image = change(image, strength)
    return image
