# SPDX-License-Identifier: Apache-2.0
"""`gluondense train folder` from a checkout."""

from gluondense.commands.train.folder import main

if __name__ == "__main__":
    raise SystemExit(main())
