"""`gluondense` from a checkout: see gluondense/commands/train_fashion_mnist.py."""

import sys

from gluondense.commands.train_fashion_mnist import main

if __name__ == "__main__":
    sys.exit(main())
