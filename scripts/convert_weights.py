"""`gluondense` from a checkout: see gluondense/commands/convert_weights.py."""

import sys

from gluondense.commands.convert_weights import main

if __name__ == "__main__":
    sys.exit(main())
