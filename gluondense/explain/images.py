# SPDX-License-Identifier: Apache-2.0
"""Explanations of a network's predictions for image files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from mxnet import gluon

from ..analysis.tasks import sigmoid, softmax, task_of
from ..data.preprocessing import Preprocessing
from ..errors import check, check_known
from .class_activation import cam_of, normalized
from .colors import overlay
from .grid import Grid

SHOWN = 5  # classes with their probabilities, at least
MIN_SIDE = 192  # pixels of the longer side of a drawn map, at least


@dataclass(frozen=True)
class ImageExplanation:
    """The classes of an image with their class activation maps.

    Parameters
    ----------
    name
        Path of the image.
    pixels
        The image as the network sees it, resized and cropped: uint8 (H, W, C).
    labels, probabilities
        The most probable classes in descending order. Multi-label probabilities are independent.
    explained, explained_probabilities
        Names of the explained classes, and their probabilities.
    maps, grid
        Their maps (T, h, w), and the positions of the cells.
    method
        ``"cam"``, ``"gradcam"`` or ``"gradcam++"``.
    """

    name: str
    pixels: np.ndarray
    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    explained: tuple[str, ...]
    explained_probabilities: tuple[float, ...]
    maps: np.ndarray
    grid: Grid
    method: str

    def overlays(self) -> list[np.ndarray]:
        """Draw each map over the image: uint8 (H, W, 3), of small images larger."""
        return [draw(self.pixels, found, self.grid) for found in self.maps]


def draw(pixels: np.ndarray, map_: np.ndarray, grid: Grid) -> np.ndarray:
    """Draw a map (h, w) over its image, whose pixels are repeated if it is small.

    Examples
    --------
    >>> draw(np.zeros((28, 28, 1), np.uint8), np.ones((7, 7)), Grid((4, 4), (1, 1))).shape
    (196, 196, 3)
    """
    factor = max(1, -(-MIN_SIDE // max(pixels.shape[:2])))
    large = pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    heat = grid.enlarged(factor).upsample(normalized(map_), (large.shape[0], large.shape[1]))
    return overlay(large, heat)


def explain_images(
    net: gluon.Block,
    files: Iterable[str | os.PathLike[str]],
    preprocessing: Preprocessing,
    class_names: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    top: int = 3,
    method: str | None = None,
    stage: str | None = None,
) -> Iterator[ImageExplanation]:
    """Yield the explanations of image files.

    Parameters
    ----------
    net, method, stage
        As in :func:`cam`.
    files, preprocessing
        Paths, and how an image becomes the network's input.
    class_names
        A label for each class; the indices of the classes if None.
    classes
        Names, or indices as text, of the classes to explain; the ``top`` most probable ones of each
        image if None.
    top
        Number of classes to explain.

    Raises
    ------
    OSError, ValueError
        If an image cannot be read, a class is unknown, or :func:`cam` raises.
    """
    check("top", top, "at least 1", top >= 1)
    check("classes", classes, "None or at least one name", classes is None or len(classes) > 0)
    metadata = getattr(net, "metadata", None)

    def choose(logits: np.ndarray) -> np.ndarray:
        if classes is None:
            return _ranked(logits)[:, :top]
        return np.array([[_index(name, class_names or _indices(logits)) for name in classes]])

    for file in files:
        pixels = preprocessing.pixels(file)[None]
        x = pixels if getattr(metadata, "preprocess", False) else preprocessing.normalize(pixels)
        found = cam_of(net, x, choose, method, stage)
        names = class_names or _indices(found.logits)
        probabilities = probabilities_of(found.logits[0], task_of(net) == "multi_label")
        shown = _ranked(found.logits)[0, : max(top, SHOWN)]
        yield ImageExplanation(
            os.fspath(file),
            pixels[0],
            tuple(names[index] for index in shown),
            tuple(float(probabilities[index]) for index in shown),
            tuple(names[index] for index in found.targets[0]),
            tuple(float(probabilities[index]) for index in found.targets[0]),
            found.maps[0],
            found.grid,
            found.method,
        )


def _ranked(logits: np.ndarray) -> np.ndarray:
    """Return the classes of each image in descending order of their logits."""
    return np.argsort(-logits, axis=1, kind="stable")


def _indices(logits: np.ndarray) -> list[str]:
    return [str(index) for index in range(logits.shape[1])]


def _index(name: str, names: Sequence[str]) -> int:
    if name not in names and name.isdecimal() and int(name) < len(names):
        return int(name)
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    check_known("class", name, names, f"known: {', '.join(names[:SHOWN])}{rest}")
    return list(names).index(name)


def probabilities_of(logits: np.ndarray, is_multi_label: bool = False) -> np.ndarray:
    """Return the softmax of logits (..., classes), or the sigmoid of independent labels.

    Examples
    --------
    >>> probabilities_of(np.zeros(2)), probabilities_of(np.zeros(3), is_multi_label=True)
    (array([0.5, 0.5]), array([0.5, 0.5, 0.5]))
    """
    return (sigmoid if is_multi_label else softmax)(logits)
