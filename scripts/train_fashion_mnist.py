# SPDX-License-Identifier: Apache-2.0
"""`gluondense train fashion-mnist` from a checkout."""

from gluondense.commands.train.fashion_mnist import main

if __name__ == "__main__":
    raise SystemExit(main())
