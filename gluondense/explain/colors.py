# SPDX-License-Identifier: Apache-2.0
"""Class activation maps drawn over their images."""

from __future__ import annotations

import numpy as np

# Anchors of the color scale from 0 to 1, RGB.
COLORS = np.array(
    [
        *([48, 18, 59], [62, 73, 200], [26, 152, 247], [24, 215, 180], [120, 250, 90]),
        *([212, 232, 53], [253, 174, 53], [238, 91, 18], [190, 32, 4], [122, 4, 3]),
    ]
)


def colored(heat: np.ndarray) -> np.ndarray:
    """Return the colors (H, W, 3) of values in [0, 1], in [0, 255]."""
    positions = np.linspace(0, 1, len(COLORS))
    return np.stack([np.interp(heat, positions, channel) for channel in COLORS.T], axis=-1)


def overlay(pixels: np.ndarray, heat: np.ndarray, strength: float = 0.6) -> np.ndarray:
    """Draw a class activation map over its image.

    Parameters
    ----------
    pixels
        The image, uint8 (H, W, C) of one or three channels.
    heat
        The map (H, W) in [0, 1]: a row of :attr:`ClassActivation.heat`.
    strength
        Opacity of the map, 0 to 1; where it is low, the image shows through more.

    Returns
    -------
    numpy.ndarray
        uint8 (H, W, 3).

    Examples
    --------
    >>> overlay(np.full((2, 2, 1), 200, np.uint8), np.zeros((2, 2)))[0, 0].tolist()
    [200, 200, 200]
    """
    if pixels.shape[:2] != heat.shape:
        raise ValueError(f"pixels {pixels.shape} and heat {heat.shape} must have one size.")
    opacity = strength * np.sqrt(np.clip(heat, 0, 1))[..., None]
    return np.rint(pixels * (1 - opacity) + colored(heat) * opacity).astype(np.uint8)
