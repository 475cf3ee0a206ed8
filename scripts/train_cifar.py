"""`gluondense` from a checkout: see gluondense/commands/train_cifar.py."""

import sys

from gluondense.commands.train_cifar import main

if __name__ == "__main__":
    sys.exit(main())
