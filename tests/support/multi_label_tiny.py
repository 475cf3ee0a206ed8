# SPDX-License-Identifier: Apache-2.0
"""A small data set of several labels per image, and a run that learns it in seconds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gluondense.data.datasets.registry import DatasetInfo, ImageArrays
from gluondense.training import TrainConfig

NAMES = ("left", "right", "dark")
IMAGES, TEST_IMAGES = 120, 60


@dataclass(frozen=True)
class GroupedArrays(ImageArrays):
    """Arrays with the group of each test image."""

    test_groups: np.ndarray | None = None


def draw(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw images uint8 (N, 8, 8, 1) whose bright halves are labels; a tenth is unknown."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((count, 3)) < (0.5, 0.2, 0)).astype(np.float32)
    labels[:, 2] = labels.sum(axis=1) == 0
    images = rng.integers(0, 120, (count, 8, 8, 1))
    images[:, :, :4] += (100 * labels[:, 0]).astype(int)[:, None, None, None]
    images[:, :, 4:] += (100 * labels[:, 1]).astype(int)[:, None, None, None]
    labels[rng.random(labels.shape) < 0.1] = np.nan
    return images.astype(np.uint8), labels


def make_data(groups: bool = True) -> GroupedArrays:
    """Return the data set, whose test images are in groups of two."""
    images, labels = draw(IMAGES, 0)
    info = DatasetInfo(
        "folder",
        NAMES,
        (8, 8),
        (0.4,),
        (0.2,),
        counts=tuple((labels == 1).sum(axis=0).tolist()),
        known=tuple((~np.isnan(labels)).sum(axis=0).tolist()),
    )
    members = np.array([f"patient {index // 2}" for index in range(TEST_IMAGES)])
    return GroupedArrays(info, images, labels, *draw(TEST_IMAGES, 1), members if groups else None)


CONFIG = TrainConfig.of(
    model="densenet121",
    model_args={
        "stem": "cifar",
        "num_init_features": 16,
        "growth_rate": 8,
        "block_config": (1, 1),
    },
    dataset="synthetic",
    resize=8,
    task="multi_label",
    epochs=3,
    batch_size=20,
    lr=0.05,
)
