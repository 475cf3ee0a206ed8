"""Data sets as arrays, and the loader that feeds them to a network."""

from .datasets.registry import DATASETS, DatasetInfo, ImageArrays, load_dataset
from .files.image import read_image
from .loaders.array import ArrayLoader
from .transforms.batch import AUGMENTATIONS

__all__ = [
    "AUGMENTATIONS",
    "DATASETS",
    "ArrayLoader",
    "DatasetInfo",
    "ImageArrays",
    "load_dataset",
    "read_image",
]
