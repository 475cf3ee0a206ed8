# SPDX-License-Identifier: Apache-2.0
"""Cells, anchors and strides of a detector's predictions, in their order."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..errors import check
from .spec import STRIDES, DetectorSpec


class Grid(NamedTuple):
    """Where each of P predictions is; float32.

    ``offsets`` (P, 2) are column and row of the cell, ``anchors`` (P, 2) width and height in
    pixels, ``strides`` (P,) the side of a cell in pixels.
    """

    offsets: np.ndarray
    anchors: np.ndarray
    strides: np.ndarray


def grid(spec: DetectorSpec, height: int, width: int) -> Grid:
    """Return the grid of the predictions for an input size.

    The order is GluonCV's: scales from the coarsest, rows, columns, the scale's three anchors.

    Parameters
    ----------
    spec
        The detector.
    height, width
        Size of the input in pixels, divisible by 32.

    Raises
    ------
    ValueError
        If a size is not divisible by 32.

    Examples
    --------
    >>> cells = grid(DetectorSpec(), 416, 416)
    >>> cells.offsets.shape, cells.strides[0], cells.anchors[0].tolist()
    ((10647, 2), 32.0, [116.0, 90.0])
    """
    check_size(height, width)
    parts = []
    for stride, anchors in spec.scales:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        cells = np.stack([columns.ravel(), rows.ravel()], axis=1)
        offsets = np.repeat(cells, len(anchors), axis=0)
        parts.append((offsets, np.tile(anchors, (len(cells), 1)), np.full(len(offsets), stride)))
    return Grid(*(np.concatenate(each).astype(np.float32) for each in zip(*parts)))


def check_size(height: int, width: int) -> None:
    """Raise a ValueError unless height and width of an input are positive multiples of 32."""
    coarsest = STRIDES[-1]
    holds = min(height, width) > 0 and height % coarsest == 0 and width % coarsest == 0
    check("height x width", f"{height}x{width}", f"positive multiples of {coarsest}", holds)
