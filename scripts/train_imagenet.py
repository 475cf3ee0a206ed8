"""`gluondense` from a checkout: see gluondense/commands/train_imagenet.py."""

import sys

from gluondense.commands.train_imagenet import main

if __name__ == "__main__":
    sys.exit(main())
