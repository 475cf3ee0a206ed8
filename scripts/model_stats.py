"""`gluondense` from a checkout: see gluondense/commands/model_stats.py."""

import sys

from gluondense.commands.model_stats import main

if __name__ == "__main__":
    sys.exit(main())
