# SPDX-License-Identifier: Apache-2.0
"""`gluondense train cifar` from a checkout."""

from gluondense.commands.train.cifar import main

if __name__ == "__main__":
    raise SystemExit(main())
