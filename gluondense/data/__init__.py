"""Data sets as arrays, and the loader that feeds them to a network."""

from gluondense.data.datasets import DATASETS, DatasetInfo, ImageArrays, load_dataset
from gluondense.data.images import read_image
from gluondense.data.loader import ArrayLoader
from gluondense.data.transforms import AUGMENTATIONS

__all__ = [
    "AUGMENTATIONS",
    "DATASETS",
    "ArrayLoader",
    "DatasetInfo",
    "ImageArrays",
    "load_dataset",
    "read_image",
]
