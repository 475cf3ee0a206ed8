# SPDX-License-Identifier: Apache-2.0
"""The methods of class activation maps, from feature maps, gradients and weights as arrays.

All arrays are of float32 or float64. The maps are finite for all finite inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Callable

import numpy as np


def class_activation(activations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return CAM (Zhou et al. 2016, eq. 2): the classifier's weights applied at each position.

    The mean of a map, plus the bias, is the logit. The map is negative where the features are
    evidence against the class.

    Parameters
    ----------
    activations
        Feature maps (N, C, h, w) that the network averages over the positions.
    weights
        Rows of the classifier, (N, C).

    Returns
    -------
    numpy.ndarray
        Maps (N, h, w).
    """
    return np.einsum("nchw,nc->nhw", activations, weights)


def grad_cam(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Return Grad-CAM (Selvaraju et al. 2017, eq. 1 and 2).

    Each channel is weighted by the mean of the logit's gradient; negative sums become 0.

    Parameters
    ----------
    activations, gradients
        Feature maps and gradients of the logits (N, C, h, w).

    Returns
    -------
    numpy.ndarray
        Maps (N, h, w), at least 0.

    Examples
    --------
    >>> ones = np.ones((1, 2, 1, 1))
    >>> grad_cam(ones, ones), grad_cam(ones, -ones)
    (array([[[2.]]]), array([[[0.]]]))
    """
    return np.maximum(class_activation(activations, gradients.mean(axis=(2, 3))), 0)


def grad_cam_plus_plus(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Return Grad-CAM++ (Chattopadhay et al. 2018, eq. 11 and 19) of the exponential of the logit.

    With the gradient g at a position and the sum S of the channel's activations, eq. 19 is
    alpha = g² / (2 g² + S g³) = 1 / (2 + S g), of which only positive g count. In the second form
    nothing is divided by 0, also where g² underflows. S is at least 0 after a ReLU, as the paper
    assumes; for feature maps that are not activated, negative sums count as 0.

    Parameters and result are those of :func:`grad_cam`.

    Examples
    --------
    >>> ones = np.ones((1, 2, 1, 1))
    >>> grad_cam_plus_plus(ones, 0 * ones), grad_cam_plus_plus(-ones, ones)
    (array([[[0.]]]), array([[[0.]]]))
    """
    positive = np.maximum(gradients, 0)
    totals = np.maximum(activations.sum(axis=(2, 3), keepdims=True), 0)
    weights = (positive / (2 + totals * positive)).sum(axis=(2, 3))
    return np.maximum(class_activation(activations, weights), 0)


Method = Callable[[np.ndarray, np.ndarray], np.ndarray]
# Those of gradients; "cam" is exact and needs the classifier's weights instead.
GRADIENT_METHODS: Mapping[str, Method] = {
    "gradcam": grad_cam,
    "gradcam++": grad_cam_plus_plus,
}
METHODS = ("cam", *GRADIENT_METHODS)
