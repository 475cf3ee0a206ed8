# SPDX-License-Identifier: Apache-2.0
"""The geometry of a preprocessing: boxes of an image in the network's input, and back.

Training, evaluation, prediction and servers map boxes with this module only. Model archives contain
a copy of it, so it imports NumPy and nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

PADDING = 114  # gray level around a letterboxed image, as in Darknet's descendants


@dataclass(frozen=True)
class Placement:
    """The rectangle of a network's input that an image fills, in whole pixels.

    Boxes are (..., 4): x1, y1, x2, y2 in pixels. Pixel ``i`` is the interval from ``i`` to
    ``i + 1``, so x2 and y2 are exclusive ends.

    Parameters
    ----------
    image
        Height and width of the image.
    resized
        Height and width of the image in the input.
    offset
        Rows and columns of the input above and left of the image; negative if it is cropped.

    Examples
    --------
    >>> placement = letterbox((480, 640), (416, 416))
    >>> placement.to_input(np.array([0.0, 0.0, 640.0, 480.0])).tolist()
    [0.0, 52.0, 416.0, 364.0]
    >>> placement.to_original(np.array([0.0, 0.0, 208.0, 208.0])).tolist()
    [0.0, 0.0, 320.0, 240.0]
    """

    image: tuple[int, int]
    resized: tuple[int, int]
    offset: tuple[int, int] = (0, 0)

    def to_input(self, boxes: np.ndarray) -> np.ndarray:
        """Map boxes of the image to pixels of the input; they may lie partly outside."""
        return (boxes * self._scale + self._shift).astype(np.float32)

    def to_original(self, boxes: np.ndarray, clip: bool = True) -> np.ndarray:
        """Map boxes of the input to pixels of the image; ``clip`` cuts them off at its edges."""
        boxes = (boxes - self._shift) / self._scale
        if clip:
            boxes = clip_boxes(boxes, self.image)
        return boxes.astype(np.float32)

    def to_row(self) -> np.ndarray:
        """Return width and height of the image, scale of x and y, and offset of x and y, (6,).

        The pixels of the input are those of the image * scale + offset.

        Examples
        --------
        >>> letterbox((480, 640), (320, 320)).to_row().tolist()
        [640.0, 480.0, 0.5, 0.5, 0.0, 40.0]
        """
        height, width = self.image
        return np.array([width, height, *self._scale[:2], *self._shift[:2]], np.float32)

    @property
    def _scale(self) -> np.ndarray:
        (height, width), (new_height, new_width) = self.image, self.resized
        return np.array([new_width / width, new_height / height] * 2)

    @property
    def _shift(self) -> np.ndarray:
        top, left = self.offset
        return np.array([left, top] * 2, np.float64)


def stretch(image: tuple[int, int], size: tuple[int, int]) -> Placement:
    """Place an image that is resized to the whole input.

    Examples
    --------
    >>> stretch((480, 640), (416, 416)).resized
    (416, 416)
    """
    return Placement(image, size)


def letterbox(image: tuple[int, int], size: tuple[int, int]) -> Placement:
    """Place an image as large as it fits, in the center, with its aspect ratio kept.

    Examples
    --------
    >>> letterbox((480, 640), (416, 416))
    Placement(image=(480, 640), resized=(312, 416), offset=(52, 0))
    """
    scale = min(size[0] / image[0], size[1] / image[1])
    height, width = (min(most, max(1, round(s * scale))) for s, most in zip(image, size))
    return Placement(image, (height, width), ((size[0] - height) // 2, (size[1] - width) // 2))


def center_crop(image: tuple[int, int], size: tuple[int, int], crop_ratio: float) -> Placement:
    """Place an image whose shorter side is resized to ``size / crop_ratio``, cropped in the center.

    Examples
    --------
    >>> center_crop((480, 640), (224, 224), 0.875)
    Placement(image=(480, 640), resized=(256, 341), offset=(-16, -58))
    """
    least = min(size)
    # Rounded down as in timm, whose published accuracies depend on it for ratios like 0.887.
    shorter = math.floor(least / crop_ratio)
    sides = tuple(zip(image, size))
    scale = max((shorter / side) * (wanted / least) for side, wanted in sides)
    height, width = (max(wanted, int(side * scale + 1e-6)) for side, wanted in sides)
    return Placement(
        image, (height, width), (-round((height - size[0]) / 2), -round((width - size[1]) / 2))
    )


def clip_boxes(boxes: np.ndarray, image: tuple[int, int]) -> np.ndarray:
    """Cut boxes off at the edges of an image of ``image`` (height, width).

    Examples
    --------
    >>> clip_boxes(np.array([-5.0, 2.0, 12.0, 9.0]), (8, 10)).tolist()
    [0.0, 2.0, 10.0, 8.0]
    """
    height, width = image
    return np.clip(boxes, 0, np.array([width, height] * 2, np.float64))
