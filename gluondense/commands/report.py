"""Write the report of a run again, from what lies in its folder."""

from __future__ import annotations

import sys
from typing import Optional

from ..training import write_report
from .arguments import Parser


def main(argv: Optional[list[str]] = None) -> int:
    """Parse, write, say where; return the process's exit code."""
    parser = Parser(description=__doc__)
    parser.add_argument("folder", metavar="RUN_FOLDER")
    args = parser.parse_args(argv)
    try:
        print(write_report(args.folder))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
