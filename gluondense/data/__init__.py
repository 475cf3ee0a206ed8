# SPDX-License-Identifier: Apache-2.0
"""Data sets, image files, transforms and the loaders that make batches of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import attach

if TYPE_CHECKING:
    from .datasets.registry import DATASETS, DatasetInfo, ImageArrays, load_dataset
    from .loaders.array import ArrayLoader
    from .pixels import read_image
    from .preprocessing import Preprocessing
    from .transforms.batch import AUGMENTATIONS
else:
    __getattr__, __dir__ = attach(__name__)

__all__ = [
    "AUGMENTATIONS",
    "DATASETS",
    "ArrayLoader",
    "DatasetInfo",
    "ImageArrays",
    "Preprocessing",
    "load_dataset",
    "read_image",
]
