# SPDX-License-Identifier: Apache-2.0
"""Where the cells of a feature map lie in the image, and interpolation between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import mxnet as mx
import numpy as np

from ..graph.ir import Graph, Node
from ..graph.trace import INPUT

WINDOWS = ("Convolution", "Pooling")


@dataclass(frozen=True)
class Grid:
    """The centers of a feature map's cells in pixels of the input.

    Cell (i, j) is centered at (``start[0] + i * step[0]``, ``start[1] + j * step[1]``); the center
    of the input's first pixel is (0, 0). The centers do not depend on the size of the input, but
    their number does: at sizes that the strides do not divide, the cells do not reach its border.

    Parameters
    ----------
    step
        Distance of neighbouring cells, vertical and horizontal: the product of the strides.
    start
        Center of the first cell.
    """

    step: tuple[float, float] = (1.0, 1.0)
    start: tuple[float, float] = (0.0, 0.0)

    def upsample(self, maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Interpolate maps (..., h, w) bilinearly to the pixels (..., H, W) of the input.

        Pixels outside of the outermost centers have the value of the nearest cell.

        Examples
        --------
        >>> Grid(step=(2, 2), start=(0, 1)).upsample(np.array([[0.0, 1.0]]), (2, 5))
        array([[0. , 0. , 0.5, 1. , 1. ],
               [0. , 0. , 0.5, 1. , 1. ]])
        """
        rows, columns = (
            _interpolation(cells, pixels, step, start)
            for cells, pixels, step, start in zip(maps.shape[-2:], size, self.step, self.start)
        )
        return rows @ maps @ columns.T

    def enlarged(self, factor: int) -> Grid:
        """Return the grid in an image in which each pixel is repeated ``factor`` times.

        Examples
        --------
        >>> Grid(step=(2, 2), start=(1, 1)).enlarged(3)
        Grid(step=(6, 6), start=(4.0, 4.0))
        """
        (height, width), (top, left), center = self.step, self.start, (factor - 1) / 2
        step = height * factor, width * factor
        return Grid(step, (top * factor + center, left * factor + center))


def _interpolation(cells: int, pixels: int, step: float, start: float) -> np.ndarray:
    """Return the matrix (pixels, cells) of linear interpolation."""
    position = np.clip((np.arange(pixels) - start) / step, 0, cells - 1)
    return np.maximum(0, 1 - np.abs(position[:, None] - np.arange(cells)))


def find_grid(symbol: mx.sym.Symbol, data: str = INPUT) -> Grid:
    """Derive the grid of a graph's first output from its convolutions and poolings.

    ``data`` is the name of the graph's input. Of several paths, as of a concatenation, the first
    one counts; in the networks of this package all paths agree.
    """
    graph = Graph(symbol, {})
    grids: dict[int, Optional[Grid]] = {}
    for node in graph.nodes():
        if node.op == "null":
            grids[id(node)] = Grid() if node.name == data else None
            continue
        found = (grids[id(source)] for source, _ in node.inputs)
        grids[id(node)] = _after(node, next((grid for grid in found if grid is not None), None))
    return grids[id(graph.heads[0][0])] or Grid()


def _after(node: Node, grid: Optional[Grid]) -> Optional[Grid]:
    """Return the grid of an operator's output; None where there is no position any more."""
    if node.op == "FullyConnected" or node.flag("global_pool"):
        return None
    if grid is None or node.op not in WINDOWS:
        return grid
    kernel, stride, dilate = (node.pair(key) for key in ("kernel", "stride", "dilate"))
    pad = node.pair("pad", 0)
    start = [
        grid.start[axis] + grid.step[axis] * ((kernel[axis] - 1) / 2 * dilate[axis] - pad[axis])
        for axis in (0, 1)
    ]
    step = [grid.step[axis] * stride[axis] for axis in (0, 1)]
    return Grid((step[0], step[1]), (start[0], start[1]))
