# SPDX-License-Identifier: Apache-2.0
"""The tasks that a network may have learned, and the probabilities of its outputs in NumPy.

Model archives contain a copy of this module, so it imports nothing of gluondense.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of classes that exclude each other, from logits (..., classes).

    Examples
    --------
    >>> softmax(np.zeros(2))
    array([0.5, 0.5])
    """
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of independent labels.

    Examples
    --------
    >>> sigmoid(np.array([-1e4, 0, 1e4])).tolist()
    [0.0, 0.5, 1.0]
    """
    return 0.5 * (1 + np.tanh(logits / 2))  # without overflow


# Name of the task -> probabilities of the network's outputs; MXNet's operators have these names.
ACTIVATIONS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "classification": softmax,
    "multi_label": sigmoid,
}
TASKS = (*ACTIVATIONS, "detection")


def check_classes(net: Any, outputs: Any) -> None:
    """Raise a ValueError unless the outputs of a network or an export are (N, classes)."""
    output = getattr(getattr(net, "metadata", None), "output", "logits")
    features = output == "features" or getattr(net, "is_headless", False)
    if isinstance(outputs, (list, tuple)) or outputs.ndim != 2 or features:
        raise ValueError("the network gives features, not classes: use one with an output.")


def task_of(net: Any) -> str:
    """Return what an export or the network of a run has learned, one of ``TASKS``."""
    return getattr(getattr(net, "metadata", None) or net, "task", "classification")
