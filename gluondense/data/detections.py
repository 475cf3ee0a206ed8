# SPDX-License-Identifier: Apache-2.0
"""The answer of a detector for one image: its boxes in the image's pixels.

Prediction and servers make it with this module only. Model archives contain a copy of it, so it
imports only modules that archives contain too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .boxes import Placement

THRESHOLD = 0.5  # probability from which on a box is reported


def to_answer(
    rows: np.ndarray,
    placement: Placement,
    class_names: Sequence[str] | None,
    threshold: float = THRESHOLD,
    top: int | None = None,
) -> list[dict[str, Any]]:
    """Return the boxes of an image, most probable first, ready for JSON.

    Each is ``{"class": name, "probability": p, "box": [x1, y1, x2, y2]}`` in pixels of the original
    image, cut off at its edges. Boxes beside the image, in the padding of its input, are dropped.

    Parameters
    ----------
    rows
        Class index, score and corners in pixels of the network's input, (K, 6), sorted by score;
        rows without a box are -1.
    placement
        Where the image lies in the network's input.
    class_names
        Names of the classes; None reports their indices.
    threshold
        Smallest score that is reported.
    top
        Largest number of boxes; None for all.

    Examples
    --------
    >>> from gluondense.data.boxes import letterbox
    >>> rows = np.array([[1, 0.9, 0, 52, 208, 208], [-1, -1, -1, -1, -1, -1.0]])
    >>> to_answer(rows, letterbox((480, 640), (416, 416)), ["cat", "dog"])
    [{'class': 'dog', 'probability': 0.9, 'box': [0.0, 0.0, 320.0, 240.0]}]
    """
    rows = np.asarray(rows)
    rows = rows[(rows[:, 0] >= 0) & (rows[:, 1] >= threshold)]
    boxes = placement.to_original(rows[:, 2:])
    inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return [
        {
            "class": class_names[int(row[0])] if class_names else str(int(row[0])),
            "probability": float(row[1]),
            "box": box.tolist(),
        }
        for row, box in zip(rows[inside][:top], boxes[inside][:top])
    ]
