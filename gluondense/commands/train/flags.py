# SPDX-License-Identifier: Apache-2.0
"""Where the flags of the training commands differ, and why; all others are the same."""

from __future__ import annotations

from collections.abc import Mapping

from ...training.configuration.detection_fields import DETECTION_FIELDS, LOSS_FIELDS
from ...training.configuration.folder_fields import FOLDER_FIELDS

_FOLDER = dict.fromkeys(FOLDER_FIELDS, "describes folders and CSV files: gluondense train folder")
_BOXES = {
    **dict.fromkeys(DETECTION_FIELDS, "describes images with boxes: gluondense train detection"),
    **dict.fromkeys(LOSS_FIELDS, "is the detection's: gluondense train detection"),
}
_CLASSIFICATION = (
    *("class_weights", "max_positive_weight", "cutmix", "teacher", "temperature", "hard_weight"),
    *("crop_ratio", "repeats", "cache_features", "min_area", "train_sizes"),
)
_OWN_SPLITS = ("image_dir", "validation_share", "split_seed")
_FILES = dict.fromkeys(
    ("rec_train", "rec_val", "ground_truth"), "describes image files: gluondense train imagenet"
)

# Command -> fields of the configuration that get no flag, with the reason.
WITHOUT: Mapping[str, Mapping[str, str]] = {
    "cifar": {"dataset": "follows from the recipe", **_FILES, **_FOLDER, **_BOXES},
    "fashion_mnist": {**_FILES, **_FOLDER, **_BOXES},
    "imagenet": {
        "dataset": "the command is for this one",
        "download": "ImageNet cannot be downloaded",
        **_FOLDER,
        **_BOXES,
    },
    "folder": {
        "dataset": "the command is for this one",
        "data_dir": "is the argument DATA",
        "download": "the images are yours",
        **_FILES,
        **_BOXES,
    },
    "detection": {
        "dataset": "the command is for this one",
        "data_dir": "is the argument DATA",
        "download": "the images are yours",
        "task": "the command is for this one",
        **_FILES,
        **{
            name: "describes images of classes" for name in FOLDER_FIELDS if name not in _OWN_SPLITS
        },
        **dict.fromkeys(_CLASSIFICATION, "is for classification"),
    },
}

# Command -> flags that no other command has, with the reason.
OWN: Mapping[str, Mapping[str, str]] = {
    "cifar": {},
    "fashion_mnist": {"--fallback-digits": "the only data set with a substitute"},
    "imagenet": {
        "--use-rec": "the only data set with a layout of record files",
        "--no-lr-scaling": "its --batch-size is per device, as in GluonCV, and scales --lr",
    },
    "folder": {},
    "detection": {
        "--network": "GluonCV names the backbone",
        "--data-shape": "GluonCV's name of the input size of detectors",
        "--num-workers": "GluonCV's name in detection",
        "--no-random-shape": "only detectors train at several sizes",
        "--syncbn": "GluonCV's name in detection",
        "--label-smooth": "GluonCV's smoothing of detectors",
        "--amp": "GluonCV's name in detection",
    },
}

# Flags that messages and documentation name, where the first flag of a field is another one.
NAMES: Mapping[str, str] = {
    "out_dir": "--out",
    "resize": "--input-size",
    "bad": "--bad",
    "group_column": "--group",
    "validation_share": "--val-share",
}
