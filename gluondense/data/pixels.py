# SPDX-License-Identifier: Apache-2.0
"""Decode, resize and crop an image as a preprocessing says: the only implementation.

Model archives contain a copy of this module.
"""

from __future__ import annotations

import io
import os

import numpy as np
from PIL import Image, ImageOps

from .boxes import PADDING, Placement
from .files.image import open_image
from .preprocessing import ImageFile, Preprocessing
from .transforms.batch import resize


def read_image(path: str | os.PathLike[str], channels: int, size: tuple[int, int]) -> np.ndarray:
    """Read an image file as uint8 (H, W, C), without keeping its aspect ratio.

    The EXIF orientation is applied, transparency is blended with black, and 16-bit grayscale is
    scaled to uint8. Errors are those of
    :meth:`.preprocessing.Preprocessing.pixels`.

    Parameters
    ----------
    path
        File in any format that Pillow reads.
    channels
        1 for grayscale or 3 for RGB.
    size
        Height and width of the result.
    """
    return Preprocessing.stretched((0.0,) * channels, (1.0,) * channels, size).pixels(path)


def read_crops(
    preprocessing: Preprocessing, source: ImageFile, name: str, count: int
) -> tuple[np.ndarray, Placement]:
    """Return 1 or 10 crops of an image and the placement of the central one.

    See :meth:`.preprocessing.Preprocessing.crops`.
    """
    if isinstance(source, (bytes, bytearray)):
        if not source:
            raise ValueError(f"{name} is empty; get it again")
        image = open_image(io.BytesIO(source), name)
    else:
        image = open_image(source, os.fspath(source))
    image = image.convert("L" if preprocessing.channels == 1 else "RGB")
    placement = preprocessing.placement(image.height, image.width)
    resized = _resize(preprocessing, ImageOps.invert(image) if preprocessing.invert else image)
    if preprocessing.resize == "letterbox":
        resized = _pad(resized, preprocessing.size, placement)
    height, width = preprocessing.size
    bottom, right = resized.shape[0] - height, resized.shape[1] - width
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right)] if count > 1 else []
    corners.append((round(bottom / 2), round(right / 2)))
    crops = np.stack([resized[y : y + height, x : x + width] for y, x in corners])
    return np.concatenate([crops, crops[:, :, ::-1]]) if count > 1 else crops, placement


def _resize(preprocessing: Preprocessing, image: Image.Image) -> np.ndarray:
    """Resize a decoded image to uint8 (H, W, C), of which the input is a crop."""
    source_size = preprocessing.source_size
    height, width = source_size or preprocessing.placement(image.height, image.width).resized
    if image.size != (width, height):
        interpolation = Image.Resampling[preprocessing.interpolation.upper()]
        image = image.resize((width, height), interpolation)
    pixels = np.asarray(image).reshape(height, width, preprocessing.channels)
    return resize(pixels[None], preprocessing.size)[0] if source_size else pixels


def _pad(pixels: np.ndarray, size: tuple[int, int], placement: Placement) -> np.ndarray:
    """Put pixels (H, W, C) at their place in a gray input."""
    (top, left), (height, width) = placement.offset, placement.resized
    padded = np.full((*size, pixels.shape[2]), PADDING, np.uint8)
    padded[top : top + height, left : left + width] = pixels
    return padded
