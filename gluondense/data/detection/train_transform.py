# SPDX-License-Identifier: Apache-2.0
"""The transform of training images: augmented, resized, and several of them combined."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import cv2
import numpy as np

from ...errors import check, check_known
from ..boxes import PADDING, Placement
from ..preprocessing import Preprocessing
from ..transforms.image import COLORS
from .annotations import Size
from .augment import SINGLE, change_colors
from .sample import COLUMNS, Sample, moved, visible
from .source import AnnotatedImage
from .transforms import Load, decode_sample

MIXING = ("mosaic", "mixup")
DETECTION_AUGMENTATIONS = (*SINGLE, "expand", *MIXING, *COLORS)
EXPAND_SHARE, MOST_EXPANDED = 0.5, 2.0
MOSAIC_SHARE, MOSAIC_CENTER, MOSAIC_SCALE = 0.5, (0.3, 0.7), (0.5, 1.0)
MIXUP_SHARE, MIXUP_ALPHA = 0.5, 1.5

Rectangle = tuple[int, int, int, int]  # x1, y1, x2, y2


@dataclass(frozen=True)
class TrainTransform:
    """The transform of a training image.

    An image is decoded and changed by the augmentations of :data:`.augment.SINGLE`, placed in the
    input as its preprocessing says, and mixed with others; last, its colours are changed. It is
    resized with OpenCV, by area where it shrinks, which differs from the pixels of
    :class:`.transforms.EvalTransform` by rounding only.

    Parameters
    ----------
    preprocessing
        The network's, with ``resize`` ``"exact"`` or ``"letterbox"``.
    augment
        Names of ``DETECTION_AUGMENTATIONS``: those of ``SINGLE``; ``"expand"`` shrinks half of the
        images by up to 2 and puts them at a random place; ``"mosaic"`` puts four images into half
        of the inputs; ``"mixup"`` adds another image to half of them, with shares of
        Beta(1.5, 1.5) that become the weights of the labels; ``"color_jitter"`` and ``"lighting"``
        as for classification.

    References
    ----------
    Liu et al., "SSD", section 2.2 (expand, crop; they shrink by up to 4); Bochkovskiy et al.,
    "YOLOv4", section 3.3 (mosaic); Zhang et al., "Bag of Freebies for Training Object Detection
    Neural Networks", section 3.1 (mixup).
    """

    preprocessing: Preprocessing
    augment: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.augment:
            check_known("augmentation", name, DETECTION_AUGMENTATIONS)
        resize = self.preprocessing.resize
        check("resize", resize, "'exact' or 'letterbox' for boxes", resize != "shorter")
        channels = self.preprocessing.channels
        check("channels", channels, "3 (RGB) for boxes", channels == 3)

    def without_mixing(self) -> TrainTransform:
        """Return the transform for the last epochs: each input has one image.

        Examples
        --------
        >>> from gluondense.data.preprocessing import IMAGENET
        >>> one = dataclasses.replace(IMAGENET, resize="letterbox")
        >>> TrainTransform(one, ("mosaic", "flip")).without_mixing().augment
        ('flip',)
        """
        augment = tuple(name for name in self.augment if name not in MIXING)
        return dataclasses.replace(self, augment=augment)

    def decode(self, image: AnnotatedImage, image_size: Size, size: Size) -> Sample:
        """Decode an image, see :class:`.transforms.DetectionTransform`."""
        # A crop is enlarged, so it needs the pixels.
        at_least = 0 if "crop" in self.augment else max(size)
        sample = decode_sample(image, image_size, at_least)
        inverted = self.preprocessing.invert
        return Sample(255 - sample.pixels, sample.labels) if inverted else sample

    def __call__(
        self, load: Load, index: int, count: int, size: Size, rng: np.random.Generator
    ) -> Sample:
        """Return the input of an image, see :class:`.transforms.DetectionTransform`."""
        sample = self._compose(load, index, count, size, rng)
        if "mixup" in self.augment and rng.random() < MIXUP_SHARE:
            other = self._compose(load, int(rng.integers(count)), count, size, rng)
            sample = mix(sample, other, float(rng.beta(MIXUP_ALPHA, MIXUP_ALPHA)))
        colors = tuple(name for name in COLORS if name in self.augment)
        return change_colors(sample, colors, rng) if colors else sample

    def _compose(
        self, load: Load, index: int, count: int, size: Size, rng: np.random.Generator
    ) -> Sample:
        """Return an input of one image, or of four."""
        if "mosaic" not in self.augment or rng.random() >= MOSAIC_SHARE:
            image = self._change(load(index), rng)
            canvas = _canvas(size)
            return Sample(canvas, paste(canvas, image, self._place(image, size, rng)))
        indices = [index, *rng.integers(count, size=3).tolist()]
        images = [self._change(load(each), rng) for each in indices]
        return self._mosaic(images, size, rng)

    def _change(self, sample: Sample, rng: np.random.Generator) -> Sample:
        for name, augmentation in SINGLE.items():
            if name in self.augment:
                sample = augmentation(sample, rng)
        return sample

    def _place(self, image: Sample, size: Size, rng: np.random.Generator) -> Rectangle:
        """Return the rectangle of the input that the image fills."""
        placement = self._placement(image.size, size)
        height, width = placement.resized
        top, left = placement.offset
        if "expand" in self.augment and rng.random() < EXPAND_SHARE:
            scale = 1 / rng.uniform(1, MOST_EXPANDED)
            height, width = max(1, round(height * scale)), max(1, round(width * scale))
            top = int(rng.integers(0, size[0] - height + 1))
            left = int(rng.integers(0, size[1] - width + 1))
        return left, top, left + width, top + height

    def _mosaic(self, images: list[Sample], size: Size, rng: np.random.Generator) -> Sample:
        """Put four images around a random point, each cut off at the lines through it."""
        canvas, (height, width) = _canvas(size), size
        x, y = (round(side * rng.uniform(*MOSAIC_CENTER)) for side in (width, height))
        labels = []
        for number, image in enumerate(images):
            scale = rng.uniform(*MOSAIC_SCALE)
            sides = self._placement(image.size, size).resized
            new_height, new_width = (max(1, round(side * scale)) for side in sides)
            right, below = number % 2, number // 2
            left, top = x - new_width * (1 - right), y - new_height * (1 - below)
            quadrant = x * right, y * below, width if right else x, height if below else y
            rectangle = left, top, left + new_width, top + new_height
            labels.append(paste(canvas, image, rectangle, quadrant))
        return Sample(canvas, np.concatenate(labels))

    def _placement(self, image: Size, size: Size) -> Placement:
        return dataclasses.replace(self.preprocessing, input_size=size).placement(*image)


def _canvas(size: Size) -> np.ndarray:
    return np.full((*size, 3), PADDING, np.uint8)


def paste(
    canvas: np.ndarray, image: Sample, rectangle: Rectangle, region: Rectangle | None = None
) -> np.ndarray:
    """Resize an image to a rectangle of a canvas and paste what lies in ``region`` of it.

    Returns the labels in pixels of the canvas. ``region`` is the whole canvas by default.
    """
    left, top, right, bottom = rectangle
    x1, y1, x2, y2 = region or (0, 0, canvas.shape[1], canvas.shape[0])
    width, height = right - left, bottom - top
    shrinks = width < image.size[1] and height < image.size[0]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    pixels = cv2.resize(image.pixels, (width, height), interpolation=interpolation)
    x1, y1, x2, y2 = max(x1, left), max(y1, top), min(x2, right), min(y2, bottom)
    canvas[y1:y2, x1:x2] = pixels[y1 - top : y2 - top, x1 - left : x2 - left]
    scale = width / image.size[1], height / image.size[0]
    return visible(moved(image.labels, scale, (left, top)), (x1, y1, x2, y2))


def mix(first: Sample, second: Sample, share: float) -> Sample:
    """Return the mean of two inputs and the labels of both, weighted by their shares.

    Examples
    --------
    >>> one, two = (Sample(np.full((1, 1, 3), n, np.uint8), np.ones((1, 6))) for n in (0, 100))
    >>> both = mix(one, two, 0.75)
    >>> both.pixels[0, 0, 0], both.labels[:, 5].tolist()
    (25, [0.75, 0.25])
    """
    shares = share, 1 - share
    pixels = cv2.addWeighted(first.pixels, shares[0], second.pixels, shares[1], 0)
    labels = [
        sample.labels * np.array([1] * (COLUMNS - 1) + [part], np.float32)
        for sample, part in zip((first, second), shares)
    ]
    return Sample(pixels, np.concatenate(labels))
