"""Pack an export into the one file that a server takes: NAME.mar, NAME.tar.gz or NAME.zip."""

from __future__ import annotations

import sys
from typing import Optional

from ..deploy import archive
from ..deploy.serving.archive import ARCHIVES
from .arguments import Parser


def main(argv: Optional[list[str]] = None) -> int:
    """Parse, pack, print what was written; return the process's exit code."""
    args = _parser().parse_args(argv)
    try:
        path = archive(args.export, args.archive)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{path} ({path.stat().st_size:,} bytes)")
    return 0


def _parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("export", help="an export: its prefix or one of its files")
    parser.add_argument(
        "archive",
        help="; ".join(f"NAME{ending}: for {row.server}" for ending, row in ARCHIVES.items()),
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
