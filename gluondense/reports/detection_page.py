# SPDX-License-Identifier: Apache-2.0
"""An evaluation of a detector, as text and as a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Optional

import numpy as np
from tabulate import tabulate

from ..analysis.detection.summary import DetectionSummary
from .detections import LEGEND, box_gallery, metric_sections
from .page import columns, document, section

_COLUMNS = ("class", "boxes", "AP50", "AP", "precision", "recall", "right", "missed", "invented")
_NESTED = ("classes", "coco", "recall_by_size", "intervals")


def detection_lines(metrics: Mapping[str, Any]) -> list[str]:
    """Return the lines that summarize ``DetectionEvaluation.to_dict``: means, a row per class."""
    bounds, coco = metrics["mean_ap50_interval"], metrics["coco"]
    span = f" ({bounds[0]:.3f} to {bounds[1]:.3f})" if bounds else ""
    ap = f", COCO AP {_number(coco['ap'])}" if coco else ""
    lines = [
        f"{metrics['images']:,} images of {metrics['dataset']} ({metrics['split']}): "
        f"mAP@0.5 {_number(metrics['mean_ap50'])}{span}{ap}"
    ]
    if metrics["skipped"]:
        lines.append(f"{metrics['skipped']} could not be read and are not counted")
    keys = ("ap50", "ap", "precision", "recall")
    rows = [
        (
            name,
            values["truth"],
            *(_number(values[key]) for key in keys),
            *(values[key] for key in ("right", "missed", "invented")),
        )
        for name, values in metrics["classes"].items()
    ]
    align = ("left", *("right",) * (len(_COLUMNS) - 1))
    table = tabulate(rows, _COLUMNS, "plain", colalign=align, disable_numparse=True)
    lines += [
        *table.splitlines(),
        f"precision to invented: detections with a score of at least {metrics['threshold']:.3f}, "
        "where the F1 score is largest",
        metrics["intervals"],
    ]
    if coco is None:
        lines.append("no COCO AP without pycocotools: pip install 'gluondense[detection]'")
    return lines


def detection_page(
    title: str,
    metrics: Mapping[str, Any],
    summary: DetectionSummary,
    images: Iterable[tuple[int, np.ndarray]],
) -> str:
    """Render a self-contained HTML page of an evaluation, with the boxes on some images.

    ``images`` are indices and pixels of the network's input, uint8 (H, W, C).
    """
    note = f"{metrics['images']:,} images of split {metrics['split']}."
    facts = {key: value for key, value in metrics.items() if key not in _NESTED}
    gallery = section(
        "Most mistakes",
        box_gallery(summary, images),
        f"The images with the most missed and invented boxes. {LEGEND}",
    )
    body = [
        f"<section><p>{escape(detection_lines(metrics)[0])}</p></section>",
        *metric_sections(summary, note),
        gallery,
        f"<section>{columns({'Evaluation': facts})}</section>",
    ]
    return document(title, f"evaluation of {metrics['images']:,} images", "".join(body))


def _number(value: Optional[float]) -> str:
    return "none" if value is None else f"{value:.3f}"
