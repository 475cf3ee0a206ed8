"""Measure image loading on one core beside MXNet's ImageRecordIter and torchvision with Pillow."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from typing import Optional

from benchmarking.loading import race
from tabulate import tabulate

from gluondense.commands.arguments import Parser


def main(argv: Optional[list[str]] = None) -> int:
    """Parse, measure, print a table; return the process's exit code."""
    parser = Parser(description=__doc__)
    parser.add_argument("rec", help="RecordIO file, of gluondense/commands/make_recordio.py")
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each; default: 5")
    args = parser.parse_args(argv)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    try:
        rates = race(args.rec, args.batch_size, args.rounds, find_spec("torchvision") is not None)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rows = [(name, *figures) for name, figures in rates.items()]
    head = ("images a second on one core", "median", "least", "most")
    print(tabulate(rows, head, tablefmt="github", floatfmt=".0f"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
