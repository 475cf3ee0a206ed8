# SPDX-License-Identifier: Apache-2.0
"""Read scikit-learn's embedded digits, a real data set that needs no download."""

from __future__ import annotations

import numpy as np

TRAIN_COUNT = 1500


def load() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return images uint8 (N, 8, 8, 1) and labels int32 (N,): training, then test.

    The set is sorted by writer, so that most writers of the last 297 images are not in training.

    Examples
    --------
    >>> train_images, train_labels, test_images, test_labels = load()
    >>> train_images.shape, test_labels.shape
    ((1500, 8, 8, 1), (297,))
    """
    # Imported here because importing scikit-learn takes a second and few runs need it.
    from sklearn.datasets import load_digits

    digits = load_digits()
    # A pixel counts the black dots of a 4×4 block: 0 to 16.
    images = np.rint(digits.images[..., None] * (255 / 16)).astype(np.uint8)
    labels = digits.target.astype(np.int32)
    return images[:TRAIN_COUNT], labels[:TRAIN_COUNT], images[TRAIN_COUNT:], labels[TRAIN_COUNT:]
