"""`gluondense` from a checkout: see gluondense/commands/make_recordio.py."""

import sys

from gluondense.commands.make_recordio import main

if __name__ == "__main__":
    sys.exit(main())
