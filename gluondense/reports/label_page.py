# SPDX-License-Identifier: Apache-2.0
"""An evaluation of several labels per image, as text and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Optional

import numpy as np
from tabulate import tabulate

from ..analysis.multi_label import MultiLabelPredictions
from .labels import metric_sections
from .page import columns, document

_COLUMNS = ("label", "present", "absent", "AUROC", "average precision")
_AT_THRESHOLD = ("threshold", "precision", "recall")


def label_lines(metrics: Mapping[str, Any]) -> list[str]:
    """Return the lines that summarize ``LabelEvaluation.to_dict``: means, and a row per label."""
    auroc = _with_interval(metrics, "mean_auroc")
    precision = _with_interval(metrics, "mean_average_precision")
    lines = [
        f"{metrics['images']:,} images of {metrics['dataset']}: mean AUROC {auroc}, "
        f"mean average precision {precision}"
    ]
    if metrics["skipped"]:
        lines.append(f"{metrics['skipped']} could not be read and are not counted")
    labels = metrics["labels"]
    rows = [
        (
            name,
            *(values[column] for column in ("present", "absent")),
            *(_with_interval(values, column) for column in ("auroc", "average_precision")),
            *(_number(values[column]) for column in _AT_THRESHOLD),
        )
        for name, values in labels.items()
    ]
    headers = (*_COLUMNS, *_AT_THRESHOLD)
    align = ("left", *("right",) * (len(headers) - 1))
    table = tabulate(rows, headers, "plain", colalign=align, disable_numparse=True)
    lines += [*table.splitlines(), metrics["intervals"]]
    missing = [name for name, values in labels.items() if values["auroc"] is None]
    if missing:
        lines.append(f"no AUROC, because only one value occurs: {', '.join(missing)}")
    return lines


def label_page(
    title: str,
    metrics: Mapping[str, Any],
    predictions: MultiLabelPredictions,
    thresholds: np.ndarray,
    groups: Optional[np.ndarray],
) -> str:
    """Render a self-contained HTML page of an evaluation."""
    names: Sequence[str] = tuple(metrics["labels"])
    note = f"{metrics['images']:,} images. Thresholds are the model's."
    sections = metric_sections(predictions, thresholds, names, groups, note)
    facts = {key: value for key, value in metrics.items() if key != "labels"}
    body = [
        f"<section><p>{escape(label_lines(metrics)[0])}</p></section>",
        *sections,
        f"<section>{columns({'Evaluation': facts})}</section>",
    ]
    return document(title, f"evaluation of {metrics['images']:,} images", "".join(body))


def _with_interval(values: Mapping[str, Any], name: str) -> str:
    bounds = values[f"{name}_interval"]
    if bounds is None:
        return _number(values[name])
    return f"{values[name]:.3f} ({bounds[0]:.3f} to {bounds[1]:.3f})"


def _number(value: Optional[float]) -> str:
    return "none" if value is None else f"{value:.3f}"
