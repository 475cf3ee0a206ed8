# SPDX-License-Identifier: Apache-2.0
"""Check MXNet, GPUs, threads, compiler and packages, and say how to fix what is wrong."""

from __future__ import annotations

import argparse
import json
import textwrap
from typing import TYPE_CHECKING, Optional

from .output import call
from .parser import Parser

if TYPE_CHECKING:
    from ..doctor.check import Line


def main(argv: Optional[list[str]] = None) -> int:
    """Print the table; return 0, or 1 if something that the installed MXNet needs is wrong."""
    parser = Parser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the lines as JSON")
    return call(_run, parser.parse_args(argv))


def _run(args: argparse.Namespace) -> int:
    from ..doctor.check import WRONG, run_checks
    from ..doctor.facts import collect

    lines = run_checks(collect())
    if args.json:
        print(json.dumps([line._asdict() for line in lines], indent=2, ensure_ascii=False))
    else:
        print(_table(lines))
    return 1 if any(line.status == WRONG for line in lines) else 0


def _table(lines: list[Line]) -> str:
    from tabulate import tabulate

    rows = [
        (line.status, line.name, _wrapped(line.value, 46), _wrapped(line.advice, 52))
        for line in lines
    ]
    return tabulate(rows, ("", "check", "found", "what to do"), tablefmt="simple")


def _wrapped(text: str, width: int) -> str:
    """Wrap between words, so that commands can be copied."""
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
