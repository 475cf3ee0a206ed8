# SPDX-License-Identifier: Apache-2.0
"""HTML of a detector's metrics and of its boxes on images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

import numpy as np

from ..analysis.detection.coco import NAMES
from ..analysis.detection.matching import IGNORED, INVENTED, RIGHT, box_iou
from ..analysis.detection.mistakes import KINDS, count_mistakes
from ..analysis.detection.outcomes import SIZES, count_by_size
from ..analysis.detection.summary import DetectionSummary
from .boxes import Box, overlay
from .page import columns, plot, section, wide_table
from .palette import FAINT, LOSS, TEST, TRAIN

COLUMNS = (
    *("class", "boxes", "AP50", "95 % interval", "AP"),
    *("precision", "recall", *SIZES, "right", "missed", "invented"),
)
COCO_NAMES = (
    *("AP", "AP50", "AP75", "AP small", "AP medium", "AP large"),
    *("AR of 1", "AR of 10", "AR of 100", "AR small", "AR medium", "AR large"),
)
LEGEND = "Green: right. Orange, dashed: missed. Pink: invented. Gray: difficult, not counted."


def metric_sections(summary: DetectionSummary, note: str) -> Iterator[str]:
    """Yield the sections with a detector's metrics: classes, curves, sizes and scores, COCO.

    ``note`` is plain text about the images.
    """
    # Imported here because plotly takes a second to import.
    from . import detection_figures as figures

    matches, threshold = summary.matches, summary.threshold
    explained = (
        f"{note} AP50 is the average precision at an IoU of 0.5, AP is that of COCO. The columns "
        f"from precision on count detections with a score of at least {threshold:.3f}, where the "
        "F1 score is largest. Small, medium and large are the recall of boxes of COCO's sizes. "
        f"{summary.intervals.describe()}"
    )
    yield section("Classes", class_table(summary), escape(explained))
    positives = matches.positives(summary.classes)
    shown = figures.shown_classes(positives)
    note = "At an IoU of 0.5. The points are at the threshold; numbers are AP50."
    if len(shown) < (count := np.count_nonzero(positives)):
        note += f" The {len(shown)} classes with the most boxes, of {count:,}."
    names = summary.class_names
    curves = figures.curves_figure(matches, names, summary.ap50, shown, threshold)
    yield section("Precision-recall curves", plot(curves), note)
    truths, found = (counts.sum(axis=0) for counts in count_by_size(matches, len(names), threshold))
    pair = (
        plot(figures.sizes_figure(truths, found)),
        plot(figures.scores_figure(matches, threshold)),
    )
    body = f'<div class="pair">{"".join(f"<div>{figure}</div>" for figure in pair)}</div>'
    note = (
        "Recall at the threshold of boxes smaller than 32 × 32 pixels, up to 96 × 96, and larger; "
        "scores of the detections, of which the dashed line is the threshold."
    )
    yield section("Recall by size, scores", body, note)
    yield section("Invented detections", *_mistakes(summary))
    yield section("COCO", *_coco(summary))


def _mistakes(summary: DetectionSummary) -> tuple[str, str]:
    counts = count_mistakes(summary.matches, summary.classes, summary.threshold)
    rows = zip((*summary.class_names, "sums"), (*counts, counts.sum(axis=0)))
    table = wide_table(
        ("class", *KINDS), ((name, *(f"{count:,}" for count in row)) for name, row in rows)
    )
    kinds = "; ".join(f"{name}: {text}" for name, text in KINDS.items())
    return table, f"Why they are wrong, at the threshold: {kinds}."


def _coco(summary: DetectionSummary) -> tuple[str, str]:
    if summary.coco is None:
        return "", "COCO's metrics need pycocotools: pip install 'gluondense[detection]'."
    values = {title: _number(summary.coco.summary[name]) for title, name in zip(COCO_NAMES, NAMES)}
    names = list(values)
    parts = {
        "Average precision": names[:3],
        "By size": [*names[3:6], *names[9:]],
        "Average recall": names[6:9],
    }
    tables = {title: {name: values[name] for name in own} for title, own in parts.items()}
    return columns(tables), (
        "Means over the IoU thresholds 0.5, 0.55, … 0.95, computed by pycocotools; average recall "
        "of up to 1, 10 and 100 detections an image."
    )


def class_table(summary: DetectionSummary) -> str:
    """Return the table of all classes, and of the means and sums over them."""
    matches, count = summary.matches, summary.classes
    outcomes = summary.outcomes
    truths, found = count_by_size(matches, count, summary.threshold)
    coco, bounds = summary.coco, summary.intervals
    each = zip(
        matches.positives(count),
        summary.ap50,
        bounds.average_precision,
        np.full(count, np.nan) if coco is None else coco.average_precision,
        zip(outcomes.precision, outcomes.recall, *_shares(found, truths).T),
        zip(*vars(outcomes).values()),
    )
    rows = [_row(name, *values) for name, values in zip(summary.class_names, each)]
    total = outcomes.total
    everything = _row(
        "mean AP, sums",
        matches.positives(count).sum(),
        summary.mean_ap50,
        bounds.mean_average_precision,
        np.nan if coco is None else coco.summary["ap"],
        (*total.precision, *total.recall, *_shares(found.sum(axis=0), truths.sum(axis=0))),
        [counts[0] for counts in vars(total).values()],
    )
    return wide_table(COLUMNS, (*rows, everything))


def _row(
    name: str,
    boxes: int,
    ap50: float,
    bounds: np.ndarray,
    ap: float,
    shares: Iterable[float],
    counts: Iterable[int],
) -> tuple[str, ...]:
    interval = "" if np.isnan(bounds).any() else f"{bounds[0]:.3f} to {bounds[1]:.3f}"
    numbers = (_number(ap50), interval, _number(ap))
    return name, f"{boxes:,}", *numbers, *map(_number, shares), *(f"{c:,}" for c in counts)


def _shares(found: np.ndarray, truths: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return found / truths


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.3f}"


def image_boxes(summary: DetectionSummary, index: int) -> tuple[list[Box], dict[str, int]]:
    """Return the boxes to draw on an image, and the numbers of right, missed and invented ones.

    Detections below the threshold are left out. Mistakes come first.
    """
    matches, names, threshold = summary.matches, summary.class_names, summary.threshold
    boxes: dict[str, list[Box]] = {"missed": [], "invented": [], "ignored": [], "right": []}
    styles = {RIGHT: ("right", LOSS), INVENTED: ("invented", TEST), IGNORED: ("ignored", FAINT)}
    own = np.flatnonzero((matches.images == index) & (matches.scores >= threshold))
    for at in own:
        kind, color = styles[int(matches.outcomes[at])]
        text = f"{names[matches.labels[at]]} {matches.scores[at]:.2f}"
        hint = f"{kind}: {text}"
        if kind != "invented":
            iou = box_iou(matches.boxes[at], matches.true_boxes[matches.matched[at]])
            hint += f", IoU {iou:.2f}"
        label = text if kind == "invented" else ""
        boxes[kind].append(Box(matches.boxes[at], color, label, hint))
    missed = (matches.true_images == index) & ~matches.found(threshold)
    missed[matches.matched[own[matches.outcomes[own] == IGNORED]]] = False  # drawn already
    for at in np.flatnonzero(missed):
        name, corners = names[matches.true_labels[at]], matches.true_boxes[at]
        if matches.difficult[at]:
            boxes["ignored"].append(Box(corners, FAINT, "", f"difficult: {name}", dashed=True))
        else:
            boxes["missed"].append(Box(corners, TRAIN, name, f"missed: {name}", dashed=True))
    counts = {kind: len(boxes[kind]) for kind in ("right", "missed", "invented")}
    return [box for kind in boxes.values() for box in kind], counts


def box_gallery(summary: DetectionSummary, images: Iterable[tuple[int, np.ndarray]]) -> str:
    """Return images with their right, missed and invented boxes.

    ``images`` are indices and pixels of the network's input, uint8 (H, W, C), of which only the
    image is shown, without padding.
    """
    cards = []
    for index, pixels in images:
        boxes, counts = image_boxes(summary, index)
        width, height, *scale_and_offset = summary.predictions.placements[index].tolist()
        shown = _without_padding(pixels, width, height, *scale_and_offset)
        styles = {"right": "right", "missed": "missed", "invented": "wrong"}
        caption = "".join(
            f'<span class="{styles[kind]}">{count} {kind}</span>' for kind, count in counts.items()
        )
        drawn = overlay(shown, (width, height), boxes, f"test image {index}")
        cards.append(
            f'<figure title="test image {index}">{drawn}<figcaption>{caption}</figcaption></figure>'
        )
    body = "".join(cards)
    return f'<div class="images boxes">{body}</div>' if cards else "<p>There are none.</p>"


def _without_padding(
    pixels: np.ndarray,
    width: float,
    height: float,
    scale_x: float,
    scale_y: float,
    offset_x: float,
    offset_y: float,
) -> np.ndarray:
    left, top = max(round(offset_x), 0), max(round(offset_y), 0)
    right, bottom = round(offset_x + scale_x * width), round(offset_y + scale_y * height)
    return pixels[top : max(bottom, top + 1), left : max(right, left + 1)]


def most_mistakes(summary: DetectionSummary, count: int) -> np.ndarray:
    """Return the indices of the images with the most missed and invented boxes, most first."""
    matches, images = summary.matches, len(summary.predictions.truth)
    invented = (matches.outcomes == INVENTED) & (matches.scores >= summary.threshold)
    missed = ~matches.difficult & ~matches.found(summary.threshold)
    mistakes = np.bincount(matches.images[invented], minlength=images)
    mistakes += np.bincount(matches.true_images[missed], minlength=images)
    order = np.argsort(-mistakes, kind="stable")[:count]
    return order[mistakes[order] > 0]
