"""`gluondense` from a checkout: see gluondense/commands/report.py."""

import sys

from gluondense.commands.report import main

if __name__ == "__main__":
    sys.exit(main())
