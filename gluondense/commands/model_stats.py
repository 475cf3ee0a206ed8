# SPDX-License-Identifier: Apache-2.0
"""Count parameters, multiply-adds, activations, memory and CIO of networks.

gluondense stats densenet121 'csp*' dpn92 --html costs.html
gluondense stats 'dpn*' --input-size 320 --set attention=se
gluondense stats densenet121 --per-layer --csv layers.csv
gluondense stats 'yolo3_*_csp_peleenet_voc' --set width=0.5
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .output import call
from .parser import Parser

if TYPE_CHECKING:
    from ..analysis.costs import Summary


def main(argv: Sequence[str] | None = None) -> int:
    """Print and write the costs of the named networks; return the exit code."""
    return call(_run, _parser().parse_args(argv))


def _run(args: argparse.Namespace) -> None:
    given = {"classes": args.classes, "in_channels": args.in_channels}
    given = {name: value for name, value in given.items() if value is not None}
    fields = {**dict(args.set), **given}
    _write([_count(name, args.input_size, fields) for name in _names(args.models)], args)


def _parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("models", nargs="*", default=["*"], metavar="MODEL", help="names or patterns; default: all")
    sizes = "224 or 224x192 (height x width); default: the size that each network is designed for"
    add("--input-size", type=_size, metavar="SIZE", help=sizes)
    add("--in-channels", type=int, metavar="N", help="channels of the image")
    add("--classes", type=int, metavar="N", help="number of outputs")
    parser.add_fields()
    add("--per-layer", action="store_true", help="every operator instead of the totals")
    add("--markdown", action="store_true", help="print the table as Markdown")
    add("--csv", type=Path, metavar="FILE", help="write the numbers as CSV")
    add("--json", type=Path, metavar="FILE", help="write the numbers as JSON")
    add("--html", type=Path, metavar="FILE", help="write a page of charts that opens offline")
    return parser


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if not match:
        message = f"{text!r} is neither a size (224) nor HEIGHTxWIDTH (224x192)"
        raise argparse.ArgumentTypeError(message)
    return int(match[1]), int(match[2] or match[1])


def _names(patterns: Sequence[str]) -> list[str]:
    """Expand the patterns in the registry's order; other names are checked by get_spec."""
    from ..detection.registry import list_detectors
    from ..models.registry import SPECS, list_models

    names: list[str] = []
    for pattern in patterns:
        if not re.search(r"[*?\[]", pattern):
            names.append(pattern)
            continue
        matches = list_models(pattern)
        found = [name for name in SPECS if name in matches] or list_detectors(pattern)
        if not found:
            raise ValueError(f"no model matches {pattern!r}: `gluondense models` lists all.")
        names += found
    return list(dict.fromkeys(names))


def _count(name: str, size: tuple[int, int] | None, fields: dict[str, Any]) -> Summary:
    from ..analysis.costs import summary
    from ..detection.registry import is_detector
    from ..models.registry import get_spec

    if is_detector(name):
        channels = fields.get("in_channels", 3)
    else:
        channels = get_spec(name, **fields).in_channels
    return summary(name, size and (1, channels, *size), **fields)


def _write(costs: list[Summary], options: argparse.Namespace) -> None:
    from ..analysis.comparison import records, table

    rows = records(costs, options.per_layer)
    if options.csv:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if options.html:
        from ..reports.costs import write_costs_page

        write_costs_page(costs, options.html)
    print(table(costs, "pipe" if options.markdown else "simple", options.per_layer))
