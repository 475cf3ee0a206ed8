# SPDX-License-Identifier: Apache-2.0
"""`gluondense train imagenet` from a checkout."""

from gluondense.commands.train.imagenet import main

if __name__ == "__main__":
    raise SystemExit(main())
