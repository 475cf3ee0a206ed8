"""`gluondense` from a checkout: see gluondense/commands/train/fashion_mnist.py."""

import sys

from gluondense.commands.train.fashion_mnist import main

if __name__ == "__main__":
    sys.exit(main())
