# SPDX-License-Identifier: Apache-2.0
"""`gluondense evaluate` from a checkout."""

from gluondense.commands.evaluate import main

if __name__ == "__main__":
    raise SystemExit(main())
