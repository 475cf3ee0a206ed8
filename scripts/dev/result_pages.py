# SPDX-License-Identifier: Apache-2.0
"""Update the model cards and the tables of exports in docs/results/*.md, and docs/weights.md.

A page has a card between ``<!-- card: NAME -->`` and ``<!-- end -->``, and a table of exports
between ``<!-- exports: NAME -->`` and ``<!-- end -->``, and that of an experiment likewise.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from dev.cards.blocks import card, exports
from dev.cards.experiment import experiment
from tabulate import tabulate

from gluondense.commands.parser import Parser
from gluondense.data.datasets.registry import DATASETS
from gluondense.data.preprocessing import CIFAR, DPN, IMAGENET, Preprocessing
from gluondense.weights.catalog import WEIGHTS
from gluondense.weights.shipped.rows import read_rows

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(
    r"(<!-- (card|exports|experiment|computed): (\S+) -->\n\n)(?:(?!<!-- end -->).)*(<!-- end -->)",
    re.S,
)
MEANS = {
    CIFAR.mean: "CIFAR",
    DATASETS["cifar10"].mean: "CIFAR-10",
    DPN.mean: "DPN",
    IMAGENET.mean: "ImageNet",
}


def updated(page: str) -> str:
    """Return a page with its blocks brought up to date."""
    return BLOCK.sub(lambda found: f"{found[1]}{KINDS[found[2]](found[3])}\n\n{found[4]}", page)


def published(_: str) -> str:
    """Return the table of the published weights; those in the package are read from its files."""
    known = [*read_rows(), *(row for row in WEIGHTS.values() if row.urls)]
    rows = [
        [
            f"`{row.name}`",
            f"{row.top1:.3f}",
            "–" if row.top5 is None else f"{row.top5:.3f}",
            _images(row.preprocessing),
            f"`{row.file_name}`" if row.urls else "in the package",
        ]
        for row in known
    ]
    head = ["weights", "top-1", "top-5", "images", "file"]
    return tabulate(rows, head, tablefmt="pipe", disable_numparse=True)


def _images(images: Preprocessing) -> str:
    size = images.size[0] if images.size[0] == images.size[1] else images.size
    mean = MEANS.get(images.mean) or ", ".join(f"{value:.4g}" for value in images.mean)
    rest = f"crop {images.crop_ratio}" if images.resize == "shorter" else "whole image"
    return f"{size}, {mean} mean, {images.interpolation}, {rest}"


KINDS = {"card": card, "exports": exports, "experiment": experiment, "computed": published}


def pages() -> list[Path]:
    """Return the pages that may have blocks."""
    return [DOCS / "weights.md", *sorted((DOCS / "results").glob("*.md"))]


def update() -> None:
    """Update the pages in place."""
    for path in pages():
        path.write_text(updated(path.read_text(encoding="utf-8")), encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """Update the pages; return the exit code."""
    Parser(description=__doc__).parse_args(argv)
    update()
    return 0


if __name__ == "__main__":
    sys.exit(main())
