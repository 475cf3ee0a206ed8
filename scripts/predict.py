"""`gluondense` from a checkout: see gluondense/commands/predict.py."""

import sys

from gluondense.commands.predict import main

if __name__ == "__main__":
    sys.exit(main())
