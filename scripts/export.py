"""`gluondense` from a checkout: see gluondense/commands/export.py."""

import sys

from gluondense.commands.export import main

if __name__ == "__main__":
    sys.exit(main())
