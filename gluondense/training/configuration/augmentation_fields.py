# SPDX-License-Identifier: Apache-2.0
"""The fields of a configuration that describe how training images change; imports no NumPy."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import is_count
from .rules import NAMES
from .settings import Section, count, items, number, setting

SIZES = items("none, or positive integers", lambda values: all(map(is_count, values)), "A,B,…", int)


@dataclass(frozen=True)
class AugmentationFields(Section):
    """The augmentation of training images, and their sizes."""

    augment: tuple[str, ...] = setting(
        (),
        "augmentations of training images, in this order: flip, crop, erase; of image files "
        "random_resized_crop, flip, rand_augment, color_jitter, lighting, erase; of images with "
        "boxes flip, vertical_flip, transpose, crop, expand, mosaic, mixup, color_jitter, lighting",
        NAMES,
    )
    min_area: float = setting(
        0.08, "smallest share of an image that random_resized_crop takes", number(0, 1, "right")
    )
    repeats: int = setting(
        1,
        "copies of an image in a batch, augmented differently; an epoch keeps its length, so it "
        "has 1/N of the images",
        count(),
    )
    train_sizes: tuple[int, ...] = setting(
        (),
        "sides in pixels of training images, each for an equal share of the epochs: small images "
        "are faster; none trains at the input size",
        SIZES,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.repeats > 1 and not self.augment:
            raise ValueError(
                f"repeats (={self.repeats}) needs `augment`: copies of an image would be equal."
            )
