# SPDX-License-Identifier: Apache-2.0
"""`gluondense archive` from a checkout."""

from gluondense.commands.archive import main

if __name__ == "__main__":
    raise SystemExit(main())
