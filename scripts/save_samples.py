"""`gluondense` from a checkout: see gluondense/commands/save_samples.py."""

import sys

from gluondense.commands.save_samples import main

if __name__ == "__main__":
    sys.exit(main())
