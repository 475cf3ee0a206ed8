"""`gluondense` from a checkout: see gluondense/commands/evaluate.py."""

import sys

from gluondense.commands.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
