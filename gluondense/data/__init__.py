"""Data sets as arrays, and the loader that feeds them to a network."""

from .datasets import DATASETS, DatasetInfo, ImageArrays, load_dataset
from .images import read_image
from .loader import ArrayLoader
from .transforms import AUGMENTATIONS

__all__ = [
    "AUGMENTATIONS",
    "DATASETS",
    "ArrayLoader",
    "DatasetInfo",
    "ImageArrays",
    "load_dataset",
    "read_image",
]
