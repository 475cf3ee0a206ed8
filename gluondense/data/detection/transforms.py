# SPDX-License-Identifier: Apache-2.0
"""Transforms of images with boxes to the network's input: for evaluation and for training."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Callable, Protocol

import numpy as np

from ..files.decode import decode
from ..preprocessing import Preprocessing
from .annotations import Size
from .sample import Sample, labels_of, moved
from .source import AnnotatedImage

Load = Callable[[int], Sample]  # reads and decodes an image of the data set


class DetectionTransform(Protocol):
    """Makes the pixels and labels of an input."""

    @property
    def preprocessing(self) -> Preprocessing:
        """The network's preprocessing."""

    def decode(self, image: AnnotatedImage, image_size: Size, size: Size) -> Sample:
        """Decode an image for an input of ``size``.

        Raises a ValueError if it is unreadable or its size is not ``image_size``.
        """

    def __call__(
        self, load: Load, index: int, count: int, size: Size, rng: np.random.Generator
    ) -> Sample:
        """Return the input of image ``index`` of ``count``; ``load`` gives :meth:`decode`'s result.

        Its pixels are uint8 (H, W, 3) of ``size``, its labels in pixels of the input.
        """


@dataclass(frozen=True)
class EvalTransform:
    """The transform of an image for evaluation, as its preprocessing says.

    Instead of labels it gives what evaluation compares detections with, float32 (1 + M, 6):
    :meth:`.Placement.to_row`, then the ground truth in pixels of the image, with difficult boxes.
    """

    preprocessing: Preprocessing

    def decode(self, image: AnnotatedImage, image_size: Size, size: Size) -> Sample:
        """Decode an image to the input, see :class:`DetectionTransform`."""
        resized = dataclasses.replace(self.preprocessing, input_size=size)
        pixels, placement = resized.placed(image.data, image.name)
        _check_size(image.name, placement.image, image_size)
        return Sample(pixels, np.vstack([placement.to_row(), image.boxes]))

    def __call__(
        self, load: Load, index: int, count: int, size: Size, rng: np.random.Generator
    ) -> Sample:
        """Return the input of an image, see :class:`DetectionTransform`."""
        return load(index)


def decode_sample(image: AnnotatedImage, image_size: Size, at_least: int) -> Sample:
    """Decode an image with its labels; JPEG may be smaller, see :func:`..files.decode.decode`."""
    pixels = decode(image.data, image.name, at_least)
    height, width = pixels.shape[:2]
    reduction = max(1, round(image_size[0] / height))
    if (height, width) != tuple(-(-side // reduction) for side in image_size):  # rounded up
        _check_size(image.name, (height, width), image_size)
    scale = width / image_size[1], height / image_size[0]
    return Sample(pixels, moved(labels_of(image.boxes), scale, (0, 0)))


def _check_size(name: str, size: Size, expected: Size) -> None:
    """Raise a ValueError unless an image has the size that its annotation gives."""
    if size != expected:
        turned = " (its EXIF orientation may turn it)" if size == expected[::-1] else ""
        raise ValueError(
            f"{name} has {size[1]}x{size[0]} pixels{turned}, its annotation says "
            f"{expected[1]}x{expected[0]}; correct one of them"
        )
