# SPDX-License-Identifier: Apache-2.0
"""`gluondense report` from a checkout."""

from gluondense.commands.report import main

if __name__ == "__main__":
    raise SystemExit(main())
