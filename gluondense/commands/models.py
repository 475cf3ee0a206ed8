# SPDX-License-Identifier: Apache-2.0
"""List the names of the networks, one per line."""

from __future__ import annotations

import argparse
from typing import Optional

from .output import call
from .parser import Parser


def main(argv: Optional[list[str]] = None) -> int:
    """Print the names that match; return the exit code."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "pattern", nargs="?", default="*", help="such as 'csp*' or 'dpn?8'; default: all"
    )
    return call(_run, parser.parse_args(argv))


def _run(args: argparse.Namespace) -> None:
    from ..detection.registry import list_detectors
    from ..models.registry import list_models

    # Detectors are listed only if they are asked for: there are five kinds for each network.
    names = list_models(args.pattern) or list_detectors(args.pattern)
    if not names:
        raise ValueError(f"no network matches {args.pattern!r}: `gluondense models` lists all.")
    print("\n".join(names))
