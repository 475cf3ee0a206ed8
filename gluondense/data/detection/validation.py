# SPDX-License-Identifier: Apache-2.0
"""Checks of annotations: every bad box and every missing image is named."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import closest
from ..files.image import PILLOW_ERRORS, is_special
from .annotations import Annotations, BadAnnotation, RawBox, RawImage, Size
from .problems import Problems

# Annotation tools disagree about whether pixels begin at 0 or at 1 and about rounding. Boxes that
# reach this far out of the image are cut off without a word.
_TOLERANCE = 1.0
_LEFT_OUT, _ONCE = "it is left out", "it is used once"
_ORIENTATION = 0x0112  # EXIF tag
_TRANSPOSED = frozenset(range(5, 9))  # orientations that exchange height and width


def validate(
    images: Iterable[RawImage | BadAnnotation], class_names: tuple[str, ...], problems: Problems
) -> Annotations:
    """Check the images and boxes of a split; leave out or clip the bad ones.

    Raises
    ------
    ValueError
        At the first bad annotation where ``problems.bad`` is ``"error"``.
    """
    labels = {name: label for label, name in enumerate(class_names)}
    names: list[bytes] = []
    sizes: list[Size] = []
    boxes: list[np.ndarray] = []
    seen: set[Path] = set()
    for image in images:
        if isinstance(image, BadAnnotation):
            problems.add("annotation", str(image), _LEFT_OUT)
            continue
        if image.path in seen:
            problems.add("duplicate", f"{image.origin} lists {image.path} twice", _ONCE)
            continue
        seen.add(image.path)
        try:
            size = _check_file(image)
        except (ValueError, OSError) as error:
            problems.add("image", str(error), "the image is left out")
            continue
        names.append(os.fsencode(image.path))
        sizes.append(size)
        boxes.append(_check_boxes(image, size, labels, problems))
    counts = [len(rows) for rows in boxes]
    return Annotations(
        np.array(names, np.bytes_),
        np.array(sizes, np.int64).reshape(-1, 2),
        np.concatenate([*boxes, np.zeros((0, 6), np.float32)]),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        class_names,
    )


def _check_file(image: RawImage) -> Size:
    """Return the size of an image, from its annotation or else from the head of the file."""
    if is_special(image.path):
        raise ValueError(f"{image.origin} names {image.path}, which is not a regular file")
    if not image.path.is_file():
        raise FileNotFoundError(f"{image.origin} names {image.path}, which does not exist")
    if image.size is not None:
        return image.size
    try:
        with Image.open(image.path) as opened:
            turned = opened.getexif().get(_ORIENTATION) in _TRANSPOSED
            return opened.size if turned else opened.size[::-1]
    except PILLOW_ERRORS as error:
        raise ValueError(f"{image.path} is not a readable image ({error})") from None


def _check_boxes(
    image: RawImage, size: Size, labels: Mapping[str, int], problems: Problems
) -> np.ndarray:
    """Return the valid boxes of an image, float32 (M, 6)."""
    rows: list[tuple[float, ...]] = []
    seen: set[tuple[float, ...]] = set()
    for box in image.boxes:
        corners = _check_box(image, box, size, labels, problems)
        if corners is None:
            continue
        row = (*corners, labels[box.class_name])
        if row in seen:
            problems.add("duplicate", f"{_name(image, box)} is there twice", _ONCE)
            continue
        seen.add(row)
        rows.append((*row, box.difficult))
    return np.array(rows, np.float32).reshape(-1, 6)


def _check_box(
    image: RawImage, box: RawBox, size: Size, labels: Mapping[str, int], problems: Problems
) -> tuple[float, ...] | None:
    """Return the corners of a box inside of its image; None if it is left out."""
    x1, y1, x2, y2 = box.corners
    if box.class_name not in labels:
        hint = closest(box.class_name, labels)
        problems.add("class", f"{_name(image, box)} has an unknown class{hint}", _LEFT_OUT)
        return None
    if x2 < x1 or y2 < y1:
        problems.add("inverted", f"{_name(image, box)} ends before it begins", _LEFT_OUT)
        return None
    if x2 == x1 or y2 == y1:
        problems.add("empty", f"{_name(image, box)} has no area", _LEFT_OUT)
        return None
    ends = size[1], size[0], size[1], size[0]
    inside = tuple(min(max(value, 0.0), end) for value, end in zip(box.corners, ends))
    reach = max(abs(new - old) for new, old in zip(inside, box.corners))
    if reach > _TOLERANCE or not _has_area(inside):
        clipped = problems.bad == "clip" and _has_area(inside)
        height, width = size
        where = f"{_name(image, box)} reaches out of the image of {width}x{height} pixels"
        problems.add("outside", where, "it is clipped" if clipped else _LEFT_OUT)
        if not clipped:
            return None
    return inside


def _has_area(corners: tuple[float, ...]) -> bool:
    return corners[2] > corners[0] and corners[3] > corners[1]


def _name(image: RawImage, box: RawBox) -> str:
    corners = ", ".join(f"{number:.6g}" for number in box.corners)
    return f"{image.origin} {box.place} ({box.class_name}: {corners})"
