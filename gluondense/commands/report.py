# SPDX-License-Identifier: Apache-2.0
"""Write the HTML report of a run from the files in its folder."""

from __future__ import annotations

import argparse
from typing import Optional

from .output import call
from .parser import Parser


def main(argv: Optional[list[str]] = None) -> int:
    """Write the report, print its path; return the exit code."""
    parser = Parser(description=__doc__)
    parser.add_argument("folder", metavar="RUN_FOLDER")
    return call(_run, parser.parse_args(argv))


def _run(args: argparse.Namespace) -> None:
    from ..training.report import write_report

    print(write_report(args.folder))
