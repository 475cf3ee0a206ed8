# SPDX-License-Identifier: Apache-2.0
"""`gluondense train detection` from a checkout."""

from gluondense.commands.train.detection import main

if __name__ == "__main__":
    raise SystemExit(main())
