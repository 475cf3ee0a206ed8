# SPDX-License-Identifier: Apache-2.0
"""`gluondense explain cam` from a checkout."""

from gluondense.commands.explain.cam import main

if __name__ == "__main__":
    raise SystemExit(main())
