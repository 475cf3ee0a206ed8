# SPDX-License-Identifier: Apache-2.0
"""Where the flags of the training commands differ, and why; all others are the same."""

from __future__ import annotations

from collections.abc import Mapping

from ...training.configuration.folder_fields import FOLDER_FIELDS

_FOLDER = dict.fromkeys(FOLDER_FIELDS, "describes folders and CSV files: gluondense train folder")
_FILES = dict.fromkeys(
    ("rec_train", "rec_val", "ground_truth"), "describes image files: gluondense train imagenet"
)

# Command -> fields of the configuration that get no flag, with the reason.
WITHOUT: Mapping[str, Mapping[str, str]] = {
    "cifar": {"dataset": "follows from the recipe", **_FILES, **_FOLDER},
    "fashion_mnist": {**_FILES, **_FOLDER},
    "imagenet": {
        "dataset": "the command is for this one",
        "download": "ImageNet cannot be downloaded",
        **_FOLDER,
    },
    "folder": {
        "dataset": "the command is for this one",
        "data_dir": "is the argument DATA",
        "download": "the images are yours",
        **_FILES,
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
}

# Flags that messages and documentation name, where the first flag of a field is another one.
NAMES: Mapping[str, str] = {
    "out_dir": "--out",
    "resize": "--input-size",
    "bad": "--bad",
    "group_column": "--group",
    "validation_share": "--val-share",
}
