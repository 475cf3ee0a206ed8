"""Measure image loading on one core beside MXNet's ImageRecordIter and torchvision with Pillow."""

from __future__ import annotations

import argparse
import os
import sys
from importlib.util import find_spec
from typing import Optional

from benchmarking.command import call
from benchmarking.image_loading import measure
from tabulate import tabulate

from gluondense.commands.arguments import Parser


def main(argv: Optional[list[str]] = None) -> int:
    """Measure, print a table; return the exit code."""
    parser = Parser(description=__doc__)
    parser.add_argument("rec", help="RecordIO file, as `gluondense make-recordio` writes")
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each; default: 5")
    args = parser.parse_args(argv)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return call(_run, args)


def _run(args: argparse.Namespace) -> None:
    torchvision = find_spec("torchvision") is not None
    rates = measure(args.rec, args.batch_size, args.rounds, torchvision)
    rows = [(name, *figures) for name, figures in rates.items()]
    head = ("images a second on one core", "median", "minimum", "maximum")
    print(tabulate(rows, head, tablefmt="github", floatfmt=".0f"))


if __name__ == "__main__":
    sys.exit(main())
