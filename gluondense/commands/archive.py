# SPDX-License-Identifier: Apache-2.0
"""Pack an export into the one file that a server takes: NAME.mar, NAME.tar.gz or NAME.zip."""

from __future__ import annotations

import argparse
from typing import Optional

from .arguments import Parser, call


def main(argv: Optional[list[str]] = None) -> int:
    """Pack the export, print the archive's path; return the exit code."""
    parser = Parser(description=__doc__)
    parser.add_argument("export", help="an export: its prefix or one of its files")
    parser.add_argument(
        "archive",
        help="NAME.mar for multi-model-server, NAME.tar.gz for SageMaker's MXNet container, "
        "NAME.zip for DJL",
    )
    return call(_run, parser.parse_args(argv))


def _run(args: argparse.Namespace) -> None:
    from ..deploy.serving.archive import archive

    path = archive(args.export, args.archive)
    print(f"{path} ({path.stat().st_size:,} bytes)")
