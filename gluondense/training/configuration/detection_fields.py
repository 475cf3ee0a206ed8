# SPDX-License-Identifier: Apache-2.0
"""The fields of a configuration that describe images with boxes; imports no NumPy."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Optional

from .settings import Section, choice, count, items, setting, switch, text, unique_name

STRIDE = 32  # sides of a detector's input are multiples of it


def _are_sides(values: tuple) -> bool:
    whole = all(isinstance(side, int) and side > 0 and side % STRIDE == 0 for side in values)
    return whole and (not values or (len(values) == 2 and values[0] <= values[1]))


SIDES = items(f"none, or the smallest and the largest multiple of {STRIDE}", _are_sides, "A,B", int)


@dataclass(frozen=True)
class DetectionFields(Section):
    """The boxes of a data set, and how images with boxes are batched; of data set ``detection``.

    See :mod:`gluondense.data.detection.dataset`.
    """

    train_split: Optional[str] = setting(
        None, "split to train on; by default train, or else trainval", text("SPLIT")
    )
    val_split: Optional[str] = setting(
        None,
        "split to evaluate after each epoch; by default val, or else a share of the training split",
        text("SPLIT"),
    )
    letterbox: bool = setting(
        False, "keep the aspect ratio of an image and pad it; otherwise stretch it", switch()
    )
    anchors: str = setting(
        "auto",
        "anchors: auto are k-means of the training boxes, coco are YOLOv3's",
        choice("auto", "coco"),
    )
    multi_scale: tuple[int, ...] = setting(
        (),
        "smallest and largest side of the training images; a size between them is drawn every ten "
        "batches; none trains at the input size",
        SIDES,
    )
    max_boxes: int = setting(
        100, "largest number of boxes of a training image; the others are left out", count()
    )


DETECTION_FIELDS = tuple(unique_name(spec) for spec in fields(DetectionFields))
LOSS_FIELDS = ("box_loss", "ignore", "match", "box_weight")  # of TaskConfig, for detection only
