# SPDX-License-Identifier: Apache-2.0
"""Class activation maps of the test images that a report shows, stored compactly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from mxnet import gluon

from ...data.preprocessing import Preprocessing
from ...data.transforms.batch import resize
from ...explain.class_activation import cam, normalized
from ...explain.grid import Grid
from ...explain.images import draw

EXPLAINED = 8  # images of each gallery
BATCH = 8
MAPS, GRID = "explained_maps", "explained_grid"
NOTE = (
    "Red is where the network finds most evidence for its answer, blue little. The maps are those "
    "of the best checkpoint; each is scaled by its own maximum."
)


def explain_arrays(
    net: gluon.HybridBlock,
    images: Sequence[np.ndarray],
    classes: np.ndarray,
    preprocessing: Preprocessing,
) -> dict[str, np.ndarray]:
    """Return the maps of images as bytes, relative to their maxima, and their grid and size.

    Parameters
    ----------
    net
        A network that gives logits.
    images
        uint8 (H, W, C), cropped, or of a data set of arrays at their own size.
    classes
        The class of each image to explain, (n,).
    preprocessing
        Size and normalization of the network's input.
    """
    maps, grid = [], Grid()
    for start in range(0, len(images), BATCH):
        pixels = resize(np.stack(images[start : start + BATCH]), preprocessing.size)
        x = preprocessing.normalize(pixels)
        found = cam(net, x, classes[start : start + BATCH])
        maps.extend(np.rint(normalized(found.maps) * 255).astype(np.uint8))
        grid = found.grid
    return {MAPS: np.array(maps), GRID: np.array([grid.step, grid.start, preprocessing.size])}


def draw_maps(
    arrays: Mapping[str, np.ndarray], images: Sequence[np.ndarray]
) -> Iterator[np.ndarray]:
    """Yield the maps of :func:`explain_arrays` drawn over the network's input, uint8 (H, W, 3)."""
    step, start, (height, width) = arrays[GRID].tolist()
    grid, size = Grid(tuple(step), tuple(start)), (int(height), int(width))
    for image, found in zip(images, arrays[MAPS]):
        yield draw(resize(image[None], size)[0], found / 255, grid)
