# SPDX-License-Identifier: Apache-2.0
"""COCO's average precision and recall, computed by pycocotools."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from .detections import Detections

# The names of pycocotools' twelve numbers, in its order.
NAMES = (
    *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    *("ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large"),
)


@dataclass(frozen=True)
class CocoMetrics:
    """COCO's metrics, 0 to 1; NaN where no true box counts.

    Parameters
    ----------
    summary
        Average precision over the IoU thresholds 0.5, 0.55, ... 0.95, at 0.5 and 0.75 and by size,
        and average recall of 1, 10 and 100 detections an image and by size; by ``NAMES``.
    average_precision, average_precision50
        Average precision of each class over all IoU thresholds, and at 0.5, (classes,).
    """

    summary: dict[str, float]
    average_precision: np.ndarray
    average_precision50: np.ndarray


def coco_metrics(predictions: Detections, classes: int) -> CocoMetrics:
    """Compute the metrics of COCO.

    A difficult true box is what COCO calls a crowd: its detections are ignored. Sizes are those of
    the boxes; COCO's own annotations have the area of an object's mask.

    Raises
    ------
    ImportError
        If pycocotools is missing.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise ImportError(
            "COCO's metrics need pycocotools, which is missing: "
            "pip install 'gluondense[detection]'."
        ) from None

    def indexed(annotations: list[dict[str, Any]]) -> Any:
        data = COCO()
        images = [{"id": int(index)} for index in np.flatnonzero(predictions.readable)]
        categories = [{"id": label} for label in range(classes)]
        data.dataset = {"images": images, "categories": categories, "annotations": annotations}
        data.createIndex()
        return data

    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        evaluation = COCOeval(indexed(_truth(predictions)), indexed(_found(predictions)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = np.where(evaluation.stats < 0, np.nan, evaluation.stats)
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # of all sizes, up to 100 an image
    return CocoMetrics(
        dict(zip(NAMES, stats.tolist())),
        _class_means(precision),
        _class_means(precision[:1]),
    )


def _truth(predictions: Detections) -> list[dict[str, Any]]:
    truth = predictions.truth.astype(np.float64)
    images, columns = np.nonzero((truth[..., 4] >= 0) & predictions.readable[:, None])
    rows = truth[images, columns]
    return [
        _annotation(number, image, row[:4], row[4]) | {"iscrowd": int(row[5] > 0)}
        for number, (image, row) in enumerate(zip(images, rows), 1)
    ]


def _found(predictions: Detections) -> list[dict[str, Any]]:
    found = predictions.detections.astype(np.float64)
    images, columns = np.nonzero((found[..., 0] >= 0) & predictions.readable[:, None])
    rows = found[images, columns]
    return [
        _annotation(number, image, row[2:], row[0]) | {"iscrowd": 0, "score": float(row[1])}
        for number, (image, row) in enumerate(zip(images, rows), 1)
    ]


def _annotation(number: int, image: int, box: np.ndarray, label: float) -> dict[str, Any]:
    x, y = box[:2]
    width, height = box[2:] - box[:2]
    return {
        "id": number,  # from 1: pycocotools takes 0 for no match
        "image_id": int(image),
        "category_id": int(label),
        "bbox": [float(x), float(y), float(width), float(height)],
        "area": float(width * height),
    }


def _class_means(precision: np.ndarray) -> np.ndarray:
    """Return the mean of each class of the precision (IoU, recall, classes), -1 for none."""
    means = precision.mean(axis=(0, 1))
    return np.where(means < 0, np.nan, means)
