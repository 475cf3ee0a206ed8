"""`gluondense` from a checkout: see gluondense/commands/train/cifar.py."""

import sys

from gluondense.commands.train.cifar import main

if __name__ == "__main__":
    sys.exit(main())
