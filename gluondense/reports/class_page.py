# SPDX-License-Identifier: Apache-2.0
"""An evaluation of one class per image, as text and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ..analysis.predictions import Predictions
from .page import document, plot, table


def class_lines(metrics: Mapping[str, Any], worst: int = 5) -> list[str]:
    """Return the lines that summarize ``Evaluation.to_dict``, with the classes of lowest recall."""
    crops = f"{metrics['crops']} crop{'s' * (metrics['crops'] > 1)}"
    errors = 100 - 100 * metrics["top1"], 100 - 100 * metrics["top5"]
    lines = [
        f"{metrics['images']:,} images of {metrics['dataset']}, {crops}: "
        f"top-1 {metrics['top1']:.3%}, top-5 {metrics['top5']:.3%} "
        f"(error {errors[0]:.2f} / {errors[1]:.2f} %)"
    ]
    if metrics["skipped"]:
        lines.append(f"{metrics['skipped']} could not be read and are not counted")
    for error in metrics["published"]:
        both = f"{error['top1']:.2f}" + ("" if error["top5"] is None else f" / {error['top5']:.2f}")
        lines.append(f"published: error {both} % ({error['source']})")
    known = [(recall, name) for name, recall in metrics["classes"].items() if recall is not None]
    lowest = ", ".join(f"{name} {recall:.1%}" for recall, name in sorted(known)[:worst])
    return [*lines, f"lowest recall: {lowest}"]


def class_page(
    title: str, metrics: Mapping[str, Any], predictions: Predictions, class_names: Sequence[str]
) -> str:
    """Render a self-contained HTML page of an evaluation."""
    # Imported here because plotly takes a second to import.
    from .figures import confusion_figure, recall_figure

    facts = {key: metrics[key] for key in metrics if key not in ("published", "classes")}
    recalls = {
        name: "no images" if recall is None else f"{recall:.1%}"
        for name, recall in metrics["classes"].items()
    }
    summary = "".join(f"<p>{escape(line)}</p>" for line in class_lines(metrics))
    figures = (make(predictions, class_names) for make in (confusion_figure, recall_figure))
    plots = "".join(map(plot, figures))
    columns = table("Evaluation", facts) + table("Recall", recalls)
    return document(
        title,
        f"evaluation of {metrics['images']:,} images",
        f"<section>{summary}</section>"
        f'<section><h2>Classes</h2><div class="split">{plots}</div></section>'
        f'<section><div class="columns">{columns}</div></section>',
    )
