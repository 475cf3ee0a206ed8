"""`gluondense` from a checkout: see gluondense/commands/launch.py."""

import sys

from gluondense.commands.launch import main

if __name__ == "__main__":
    sys.exit(main())
