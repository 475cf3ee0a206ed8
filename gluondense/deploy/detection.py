# SPDX-License-Identifier: Apache-2.0
"""Boxes in image files."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import mxnet as mx
from mxnet import gluon

from ..data.detections import to_answer
from ..data.preprocessing import Preprocessing


@dataclasses.dataclass(frozen=True)
class Detection:
    """The boxes of one image, most probable first.

    Parameters
    ----------
    image
        Path of the image.
    boxes
        A dict for each box: ``class``, ``probability``, and ``box``, the corners
        [x1, y1, x2, y2] in pixels of the image.
    """

    image: str
    boxes: tuple[dict[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return {"image": self.image, "boxes": list(self.boxes)}


def detect(
    net: gluon.Block,
    files: Sequence[str],
    preprocessing: Preprocessing,
    class_names: Sequence[str] | None,
    threshold: float,
    top: int | None = None,
    ctx: mx.Context | None = None,
) -> list[Detection]:
    """Return the boxes in image files; see :func:`gluondense.deploy.predict`.

    All files are read before the first is processed.
    """
    images = [preprocessing.placed(file) for file in files]
    takes_pixels = getattr(getattr(net, "metadata", None), "preprocess", False)
    found = []
    for file, (pixels, placement) in zip(files, images):
        batch = pixels[None] if takes_pixels else preprocessing.normalize(pixels[None])
        outputs = net(mx.nd.array(batch, ctx=ctx, dtype=batch.dtype))
        rows = mx.nd.concat(*outputs, dim=2).asnumpy()[0]
        boxes = to_answer(rows, placement, class_names, threshold, top)
        found.append(Detection(file, tuple(boxes)))
    return found
