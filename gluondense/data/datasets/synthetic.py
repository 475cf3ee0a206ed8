# SPDX-License-Identifier: Apache-2.0
"""Generate a tiny, learnable, deterministic data set for tests and dry runs."""

from __future__ import annotations

import numpy as np

CLASS_NAMES = tuple(f"pattern {index}" for index in range(5))


def load() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return images uint8 (N, 32, 32, 3) and labels int32 (N,): 200 for training, then 50 for test.

    Each class is a random pattern of 4×4 coloured tiles with added noise.

    Examples
    --------
    >>> train_images, train_labels, test_images, test_labels = load()
    >>> test_images.shape, test_labels[:6].tolist()
    ((50, 32, 32, 3), [0, 1, 2, 3, 4, 0])
    """
    # RandomState's streams never change; those of Generator may change with the NumPy version.
    rng = np.random.RandomState(0)
    tiles = rng.uniform(64, 192, size=(len(CLASS_NAMES), 4, 4, 3))
    patterns = tiles.repeat(8, axis=1).repeat(8, axis=2)

    def split(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(count, dtype=np.int32) % len(CLASS_NAMES)
        images = patterns[labels] + rng.normal(0, 40, size=(count, 32, 32, 3))
        return np.clip(images, 0, 255).astype(np.uint8), labels

    return (*split(200), *split(50))
