"""`gluondense` from a checkout: see gluondense/commands/train/imagenet.py."""

import sys

from gluondense.commands.train.imagenet import main

if __name__ == "__main__":
    sys.exit(main())
