"""`gluondense` from a checkout: see gluondense/commands/archive.py."""

import sys

from gluondense.commands.archive import main

if __name__ == "__main__":
    sys.exit(main())
